//! Reads a stream of one tar after the other as it arrives, in pieces of any size. Only regular files are expected, and further
//! names of them: whatever else a hostile stream holds is an error. Pure.

use std::io;
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// What a piece of the stream holds.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    /// A file begins.
    File { path: String, size: u64, mode: u32 },
    /// A file that an earlier name of the same archive has sent already: a hard link.
    Link { path: String, target: String },
    /// Bytes of the file.
    Data(Vec<u8>),
    /// The file is complete.
    Complete,
}

/// What may be too long for a header.
#[derive(Clone, Copy, Debug)]
enum Naming {
    Name,
    Target,
}

/// The state between two pieces.
#[derive(Debug, Default)]
pub(crate) struct Untar {
    buffer: Vec<u8>,
    left: u64,
    padding: u64,
    in_file: bool,
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    /// What of the next entry is being read, if that is too long for a header.
    naming: Option<Naming>,
    ended: bool,
}

impl Untar {
    /// Takes the next piece.
    pub(crate) fn feed(&mut self, mut data: &[u8]) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        while !data.is_empty() {
            if self.left > 0 {
                let (now, rest) = data.split_at(clamp(self.left, data.len()));
                self.left -= now.len() as u64;
                data = rest;
                match self.naming {
                    Some(Naming::Name) => self.long_name.get_or_insert_default().extend_from_slice(now),
                    Some(Naming::Target) => self.long_target.get_or_insert_default().extend_from_slice(now),
                    None => items.push(Item::Data(now.to_vec())),
                }
                self.end_entry(&mut items);
            } else if self.padding > 0 {
                let skip = clamp(self.padding, data.len());
                self.padding -= skip as u64;
                data = data.get(skip..).unwrap_or_default();
            } else {
                let (now, rest) = data.split_at((BLOCK - self.buffer.len()).min(data.len()));
                self.buffer.extend_from_slice(now);
                data = rest;
                if self.buffer.len() == BLOCK {
                    let block = std::mem::take(&mut self.buffer);
                    self.header(&block, &mut items)?;
                }
            }
        }
        Ok(items)
    }

    /// Whether the last archive's end was seen.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    fn header(&mut self, block: &[u8], items: &mut Vec<Item>) -> io::Result<()> {
        if block.iter().all(|b| *b == 0) {
            self.ended = true;
            return Ok(());
        }
        self.ended = false;
        let header = Header::from_byte_slice(block);
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
            .sum();
        if header.cksum()? != sum {
            return Err(invalid("the archive is damaged"));
        }
        let size = header.entry_size()?;
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        match header.entry_type() {
            EntryType::GNULongName => {
                if size > 64 * 1024 {
                    return Err(invalid("a name in the archive is too long"));
                }
                self.naming = Some(Naming::Name);
            }
            EntryType::GNULongLink => {
                if size > 64 * 1024 {
                    return Err(invalid("a name in the archive is too long"));
                }
                self.naming = Some(Naming::Target);
            }
            EntryType::Link if size == 0 => {
                let own = header.link_name_bytes().unwrap_or_default();
                let target = text(self.long_target.take(), &own)?;
                let path = text(self.long_name.take(), &header.path_bytes())?;
                items.push(Item::Link { path, target });
            }
            EntryType::Regular | EntryType::Continuous => {
                let path = text(self.long_name.take(), &header.path_bytes())?;
                self.in_file = true;
                items.push(Item::File {
                    path,
                    size,
                    mode: header.mode()? & 0o777,
                });
            }
            _ => return Err(invalid("the archive holds something that is not a file")),
        }
        self.end_entry(items);
        Ok(())
    }

    fn end_entry(&mut self, items: &mut Vec<Item>) {
        if self.left > 0 {
            return;
        }
        self.naming = None;
        if std::mem::replace(&mut self.in_file, false) {
            items.push(Item::Complete);
        }
    }
}

/// A name: the long one that came before its entry, or the header's own.
fn text(long: Option<Vec<u8>>, own: &[u8]) -> io::Result<String> {
    let mut name = long.unwrap_or_else(|| own.to_vec());
    while name.last() == Some(&0) {
        name.pop();
    }
    String::from_utf8(name).map_err(|_| invalid("a name in the archive is not UTF-8"))
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(available)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn any_cut_yields_the_same_files() {
        let long = format!("work/{}/x", "n".repeat(180));
        let files: [(&str, &[u8]); 4] = [
            ("work/a", b"hello"),
            ("work/empty", b""),
            (&long, &[9; 700]),
            ("out/b", &[1; 512]),
        ];
        // Many names come as more than one archive.
        let bytes = [archive(&files[..2]), archive(&files[2..])].concat();
        for step in [1, 7, 511, 512, 513, bytes.len()] {
            let mut untar = Untar::default();
            let mut seen: Vec<(String, Vec<u8>, bool)> = Vec::new();
            for piece in bytes.chunks(step) {
                for item in untar.feed(piece).unwrap() {
                    match item {
                        Item::File { path, mode, .. } => {
                            assert_eq!(mode, 0o640);
                            seen.push((path, vec![], false));
                        }
                        Item::Data(data) => seen.last_mut().unwrap().1.extend(data),
                        Item::Link { .. } => panic!("there is no link"),
                        Item::Complete => seen.last_mut().unwrap().2 = true,
                    }
                }
            }
            let expected: Vec<_> = files.iter().map(|(p, c)| ((*p).to_owned(), c.to_vec(), true)).collect();
            assert_eq!(seen, expected, "in steps of {step}");
            assert!(untar.ended());
        }
    }

    #[test]
    fn a_cut_stream_never_ends_and_a_damaged_one_is_refused() {
        let bytes = archive(&[("work/a", &[5; 2000])]);
        let mut untar = Untar::default();
        let items = untar.feed(&bytes[..1500]).unwrap();
        assert!(!untar.ended() && !items.contains(&Item::Complete));
        let mut damaged = bytes;
        damaged[10] ^= 1;
        assert!(Untar::default().feed(&damaged).is_err());
    }

    #[test]
    fn further_names_of_a_file_are_told_however_long_they_are() {
        let long = |letter: &str| format!("work/{}", letter.repeat(200));
        let links = [("work/b".to_owned(), "work/a".to_owned()), (long("c"), long("d"))];
        let mut builder = tar::Builder::new(Vec::new());
        for (path, target) in &links {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        }
        let items = Untar::default().feed(&builder.into_inner().unwrap()).unwrap();
        let expected = links.map(|(path, target)| Item::Link { path, target });
        assert_eq!(items, expected);
    }

    #[test]
    fn symbolic_links_and_devices_are_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "work/l", "/etc/passwd").unwrap();
        assert!(Untar::default().feed(&builder.into_inner().unwrap()).is_err());
    }
}
