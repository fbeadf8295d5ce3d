//! Samples, and what is made of them: minimum, median, maximum, and ratios of medians.

use std::collections::BTreeMap;

use serde::Serialize;

/// Every sample of the benchmark, by what was measured and by round.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Samples(BTreeMap<String, BTreeMap<u32, f64>>);

/// Takes the samples of one round.
#[derive(Debug)]
pub(crate) struct Series<'s> {
    samples: &'s mut Samples,
    round: u32,
}

impl Series<'_> {
    /// Adds a sample.
    pub(crate) fn add(&mut self, key: &str, value: f64) {
        let rounds = self.samples.0.entry(key.to_owned()).or_default();
        rounds.insert(self.round, value);
    }
}

impl Samples {
    /// The samples of a round are added here.
    pub(crate) fn round(&mut self, round: u32) -> Series<'_> {
        Series { samples: self, round }
    }

    /// The spread of what was measured under a key, if it was measured.
    pub(crate) fn spread(&self, key: &str) -> Option<Spread> {
        Spread::of(self.0.get(key)?.values().copied())
    }

    /// The ratio of two medians, between the smallest and the largest ratio of two samples of one round.
    pub(crate) fn ratio(&self, over: &str, under: &str) -> Option<Spread> {
        let (numerators, denominators) = (self.0.get(over)?, self.0.get(under)?);
        let pairs = numerators
            .iter()
            .filter_map(|(round, value)| Some(value / denominators.get(round)?));
        Some(Spread {
            median: self.spread(over)?.median / self.spread(under)?.median,
            ..Spread::of(pairs)?
        })
    }
}

/// How samples lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// How many.
    pub(crate) count: usize,
    /// The smallest.
    pub(crate) min: f64,
    /// The one in the middle.
    pub(crate) median: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// None of no samples.
    fn of(samples: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match sorted.len() % 2 {
            0 => (upper + sorted.get(middle.wrapping_sub(1))?) / 2.0,
            _ => upper,
        };
        Some(Self {
            count: sorted.len(),
            min: *sorted.first()?,
            median,
            max: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |samples: &[f64]| Spread::of(samples.iter().copied());
        assert_eq!(spread(&[]), None);
        let odd = spread(&[3.0, 1.0, 10.0]).unwrap();
        assert_eq!((odd.count, odd.min, odd.median, odd.max), (3, 1.0, 3.0, 10.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
    }

    #[test]
    fn ratios_are_of_medians_and_their_spread_is_of_pairs() {
        let mut samples = Samples::default();
        for (round, ours, theirs) in [(1, 2.0, 1.0), (2, 3.0, 3.0), (3, 4.0, 8.0)] {
            let mut series = samples.round(round);
            series.add("ours", ours);
            series.add("theirs", theirs);
        }
        // A round in which one of the two failed has no pair.
        samples.round(4).add("ours", 3.0);
        let ratio = samples.ratio("ours", "theirs").unwrap();
        assert_eq!((ratio.count, ratio.min, ratio.median, ratio.max), (3, 0.5, 1.0, 2.0));
        assert_eq!(samples.ratio("ours", "absent"), None);
    }
}
