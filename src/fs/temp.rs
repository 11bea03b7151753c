//! The names of our unfinished files: `.NAME.cutover-XXXXXXXX`, told from the user's own by their
//! form alone, so that a later run finds and sweeps what an interrupted one left behind.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::path::{NAME_MAX, Name};

const MARK: &[u8] = b".cutover-";
const RANDOM_BYTES: usize = 8;
const RANDOM_ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// How much of the name that the file is for still fits beside the dot, the mark and the rest.
const STEM_MAX: usize = NAME_MAX - 1 - MARK.len() - RANDOM_BYTES;

/// A fresh name for the unfinished content of `for_name`.
pub fn temp_name(for_name: &Name) -> Name {
    let stem = stem_of(for_name);
    let mut bytes = Vec::with_capacity(NAME_MAX);
    bytes.push(b'.');
    bytes.extend_from_slice(stem);
    bytes.extend_from_slice(MARK);
    // The standard library's hash keys are random without a call to the kernel each. They need
    // not be secret: the file is made with `O_EXCL`, so a guessed name can only be in the way.
    let mut random = RandomState::new().build_hasher().finish();
    for _ in 0..RANDOM_BYTES {
        bytes.push(RANDOM_ALPHABET[(random % 36) as usize]);
        random /= 36;
    }
    Name::new(&bytes).expect("a dot, parts of a name and ASCII, cut to fit")
}

/// Whether `name` has the form of our unfinished files.
pub fn is_temp(name: &[u8]) -> bool {
    stem_in(name).is_some()
}

/// Whether `temp` could hold the unfinished content of `name`. Names that are too long to fit
/// beside the mark are compared by their front.
pub fn temp_belongs_to(temp: &[u8], name: &Name) -> bool {
    stem_in(temp) == Some(stem_of(name))
}

fn stem_in(temp: &[u8]) -> Option<&[u8]> {
    let (rest, random) = temp.split_last_chunk::<RANDOM_BYTES>()?;
    let stem = rest.strip_prefix(b".")?.strip_suffix(MARK)?;
    let ours = random.iter().all(|byte| RANDOM_ALPHABET.contains(byte));
    (ours && !stem.is_empty()).then_some(stem)
}

/// The front of the name that fits, never half a character: some filesystems refuse a name that
/// is not UTF-8.
fn stem_of(name: &Name) -> &[u8] {
    let bytes = name.as_bytes();
    let mut cut = bytes.len().min(STEM_MAX);
    if let Ok(text) = std::str::from_utf8(bytes) {
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
    }
    &bytes[..cut]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Name {
        Name::new(bytes).unwrap()
    }

    #[test]
    fn a_temp_name_is_recognised_and_knows_its_owner() {
        for of in [&b"a"[..], b".hidden", b"x.cutover-01234567", b"\xff\n"] {
            let temp = temp_name(&name(of));
            assert!(is_temp(temp.as_bytes()), "{temp}");
            assert!(temp_belongs_to(temp.as_bytes(), &name(of)));
            assert!(!temp_belongs_to(temp.as_bytes(), &name(b"other")));
        }
    }

    #[test]
    fn two_temp_names_of_one_file_differ() {
        assert_ne!(temp_name(&name(b"a")), temp_name(&name(b"a")));
    }

    #[test]
    fn the_longest_name_is_cut_between_characters() {
        let long = name("é".repeat(127).as_bytes());
        let temp = temp_name(&long);
        assert!(temp.as_bytes().len() <= NAME_MAX);
        assert!(std::str::from_utf8(temp.as_bytes()).is_ok());
        assert!(temp_belongs_to(temp.as_bytes(), &long));

        let raw = name(&[0xff; 255]);
        let temp = temp_name(&raw);
        assert_eq!(temp.as_bytes().len(), NAME_MAX);
        assert!(temp_belongs_to(temp.as_bytes(), &raw));
    }

    #[test]
    fn names_of_others_are_not_taken_for_ours() {
        for other in [
            &b"a.cutover-01234567"[..],
            b".a.cutover-0123456",
            b".a.cutover-0123456X",
            b"..cutover-01234567",
            b".a.XXXXXX",
            b".cutover-01234567",
            b"",
        ] {
            assert!(!is_temp(other), "{other:?}");
        }
    }
}
