//! The memory that one call of a runner may use.

use wasmtime::ResourceLimiter;

/// Elements in all tables of one call. A table holds the functions that a component calls through a pointer.
const TABLE_ELEMENTS: usize = 1 << 20;

/// Bounds the sum of a call's memories. wasmtime's own `StoreLimits` bounds each alone, and its refusal reaches the
/// runner's allocator, which then aborts without saying why.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: usize,
    used: usize,
    /// What the growth under way adds to `used`.
    growth: usize,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            growth: 0,
        }
    }
}

/// A runner asked for more memory than it may use.
#[derive(Debug, thiserror::Error)]
#[error(
    "it needs more than the {} MiB of memory that one call may use; raise `Options::memory_limit`",
    limit >> 20
)]
pub(crate) struct MemoryLimitReached {
    limit: usize,
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.growth = desired.saturating_sub(current);
        let used = self.used.saturating_add(self.growth);
        if used > self.limit {
            return Err(MemoryLimitReached { limit: self.limit }.into());
        }
        self.used = used;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!("a runner's memory could not grow: {error:#}");
        self.used = self.used.saturating_sub(self.growth);
        self.growth = 0;
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together() {
        let mut limiter = MemoryLimiter::new(10 << 20);
        assert!(limiter.memory_growing(0, 6 << 20, None).unwrap());
        assert!(limiter.memory_growing(0, 4 << 20, None).unwrap());
        let error = limiter.memory_growing(6 << 20, 7 << 20, None).unwrap_err();
        assert!(error.to_string().contains("10 MiB"), "{error}");
    }

    #[test]
    fn failed_growth_is_given_back() {
        let mut limiter = MemoryLimiter::new(10 << 20);
        assert!(limiter.memory_growing(0, 8 << 20, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert!(limiter.memory_growing(0, 8 << 20, None).unwrap());
    }
}
