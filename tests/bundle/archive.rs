//! A bundle taken to pieces and put together again, otherwise than `cutover` would: written from
//! the POSIX description of tar, with nothing of the program under test.

use std::fs;
use std::path::Path;

const BLOCK: usize = 512;

/// The members of a plain bundle, in order.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The members.
    pub members: Vec<Part>,
    /// What is written after the last one; two blocks of zeros by rights.
    pub end: Vec<u8>,
}

/// A member as it is in the file.
#[derive(Clone, Debug)]
pub struct Part {
    /// PAX records before its header.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    /// The header block; its checksum is made right when it is written.
    pub header: [u8; BLOCK],
    /// What follows it, without padding.
    pub content: Vec<u8>,
}

impl Archive {
    /// Reads a bundle that is not encrypted.
    pub fn open(file: &Path) -> Archive {
        let bytes = zstd::decode_all(&fs::read(file).unwrap()[..]).unwrap();
        let mut archive = Archive {
            members: Vec::new(),
            end: vec![0; 2 * BLOCK],
        };
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while rest[..BLOCK].iter().any(|&byte| byte != 0) {
            let header: [u8; BLOCK] = rest[..BLOCK].try_into().unwrap();
            let found = records_of(&records, "size").and_then(|size| size.parse().ok());
            let size = found.unwrap_or_else(|| octal(&header[124..136]));
            let content = rest[BLOCK..BLOCK + size].to_vec();
            rest = &rest[BLOCK + size.next_multiple_of(BLOCK)..];
            if header[156] == b'x' {
                records = parse_records(&content);
                continue;
            }
            archive.members.push(Part {
                records: std::mem::take(&mut records),
                header,
                content,
            });
        }
        archive
    }

    /// Writes it to `file`.
    pub fn write(&self, file: &Path) {
        fs::write(file, zstd::encode_all(&self.to_bytes()[..], 3).unwrap()).unwrap();
    }

    /// The archive without compression.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.members {
            part.write(&mut bytes);
        }
        bytes.extend_from_slice(&self.end);
        bytes
    }

    /// The member whose path is `name`.
    #[track_caller]
    pub fn member(&mut self, name: &str) -> &mut Part {
        let found = self
            .members
            .iter_mut()
            .find(|part| part.name() == name.as_bytes());
        found.unwrap_or_else(|| panic!("no member {name}"))
    }

    /// Puts a member behind the last entry, before what is the bundle's own.
    pub fn add(&mut self, part: Part) {
        let own = |part: &Part| part.name().starts_with(b"cutover-bundle/manifests/");
        let at = self.members.iter().position(own).expect("a manifest");
        self.members.insert(at, part);
    }
}

impl Part {
    /// A member of a type, root's, with mode 0644.
    pub fn new(flag: u8, name: &str, content: &[u8]) -> Part {
        let mut part = Part {
            records: Vec::new(),
            header: [0; BLOCK],
            content: content.to_vec(),
        };
        part.put(0, name.as_bytes());
        part.put(100, b"0000644");
        part.put(108, b"0000000");
        part.put(116, b"0000000");
        part.put(136, b"00000000000");
        part.put(257, b"ustar\x0000");
        part.put(329, b"0000000");
        part.put(337, b"0000000");
        part.header[156] = flag;
        part.put_size(content.len());
        part
    }

    /// The same with what it links or points to.
    pub fn to(mut self, link: &str) -> Part {
        self.put(157, link.as_bytes());
        self
    }

    /// The same with a record before it.
    pub fn with(mut self, key: &str, value: &[u8]) -> Part {
        self.records.push((key.into(), value.into()));
        self
    }

    /// Overwrites header bytes.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Says how much follows.
    pub fn put_size(&mut self, size: usize) {
        self.put(124, format!("{size:011o}").as_bytes());
    }

    /// Its path.
    pub fn name(&self) -> &[u8] {
        for key in ["path", "GNU.sparse.name"] {
            let found = self
                .records
                .iter()
                .find(|(known, _)| known == key.as_bytes());
            if let Some((_, value)) = found {
                return value;
            }
        }
        let end = self.header[..100].iter().position(|&byte| byte == 0);
        &self.header[..end.unwrap_or(100)]
    }

    fn write(&self, out: &mut Vec<u8>) {
        if !self.records.is_empty() {
            let mut text = Vec::new();
            for (key, value) in &self.records {
                push_record(&mut text, key, value);
            }
            Part::new(b'x', "PaxHeaders/x", &text).write(out);
        }
        let mut header = self.header;
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
}

fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let len = (rest + 1..).find(|len| len.to_string().len() + rest == *len);
    out.extend_from_slice(format!("{} ", len.unwrap()).as_bytes());
    out.extend_from_slice(&[key, b"=", value, b"\n"].concat());
}

fn parse_records(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = rest.iter().position(|&byte| byte == b' ').unwrap();
        let len: usize = std::str::from_utf8(&rest[..space])
            .unwrap()
            .parse()
            .unwrap();
        let record = &rest[space + 1..len - 1];
        let equals = record.iter().position(|&byte| byte == b'=').unwrap();
        records.push((record[..equals].into(), record[equals + 1..].into()));
        rest = &rest[len..];
    }
    records
}

fn records_of(records: &[(Vec<u8>, Vec<u8>)], key: &str) -> Option<String> {
    let found = records.iter().find(|(known, _)| known == key.as_bytes());
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

fn octal(field: &[u8]) -> usize {
    let text = std::str::from_utf8(field).unwrap();
    usize::from_str_radix(text.trim_matches(['\0', ' ']), 8).unwrap()
}
