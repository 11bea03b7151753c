#![expect(
    clippy::single_range_in_vec_init,
    reason = "one range of data is what is meant"
)]

use std::io::{Read, Seek};

use super::super::testing::{Mounted, name, places};
use super::super::{Dir, stat_file};
use super::*;

const MIB: u64 = 1 << 20;

/// A file with data in `data` and holes elsewhere.
fn sparse_file(dir: &Dir, called: &str, size: u64, data: &[Range<u64>]) -> File {
    let file = dir.create_new(&name(called)).unwrap();
    file.set_len(size).unwrap();
    for range in data {
        let bytes: Vec<u8> = (range.start..range.end)
            .map(|at| (at % 251) as u8 | 1)
            .collect();
        file.write_all_at(&bytes, range.start).unwrap();
    }
    file
}

fn content(mut file: &File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

fn copy(from: &File, to: &File, size: u64, sparse: Sparse) -> io::Result<Copied> {
    let mut done = 0;
    let copied = copy_content(from, to, size, sparse, &mut |bytes| {
        done += bytes;
        Ok(())
    })?;
    assert_eq!(done, size);
    Ok(copied)
}

#[test]
fn holes_survive_a_copy() {
    for place in places() {
        let data = [MIB..MIB + 4096, 3 * MIB..3 * MIB + 10_000];
        let from = sparse_file(&place.dir, "from", 8 * MIB, &data);
        let to = place.dir.create_new(&name("to")).unwrap();
        let copied = copy(&from, &to, 8 * MIB, Sparse::Keep).unwrap();
        assert!(copied.bytes < MIB, "{copied:?}");
        assert_eq!(content(&to), content(&from));
        assert_eq!(
            data_ranges(&to, 8 * MIB).unwrap(),
            data_ranges(&from, 8 * MIB).unwrap()
        );
        assert!(stat_file(&to).unwrap().blocks * 512 < MIB);
    }
}

#[test]
fn holes_are_filled_on_request() {
    for place in places() {
        let from = sparse_file(&place.dir, "from", 2 * MIB, &[4096..8192]);
        let to = place.dir.create_new(&name("to")).unwrap();
        copy(&from, &to, 2 * MIB, Sparse::Fill).unwrap();
        assert_eq!(content(&to), content(&from));
        assert!(stat_file(&to).unwrap().blocks * 512 >= 2 * MIB);
    }
}

#[test]
fn a_copy_between_filesystems_is_whole() {
    let places = places();
    let [one, other] = &places[..] else {
        eprintln!("skipped: no second filesystem");
        return;
    };
    let size = 9 * MIB + 5;
    let from = sparse_file(&one.dir, "from", size, &[0..size - MIB, size - 3..size]);
    let to = other.dir.create_new(&name("to")).unwrap();
    copy(&from, &to, size, Sparse::Keep).unwrap();
    assert_eq!(content(&to), content(&from));
}

#[test]
fn only_the_first_bytes_are_copied_and_nothing_old_stays() {
    for place in places() {
        let from = sparse_file(&place.dir, "from", MIB, &[0..10, MIB / 2..MIB]);
        let to = sparse_file(&place.dir, "to", 2 * MIB, &[0..2 * MIB]);
        let size = MIB / 2 + 1;
        copy(&from, &to, size, Sparse::Keep).unwrap();
        assert_eq!(content(&to), content(&from)[..size as usize]);
        copy(&from, &to, 0, Sparse::Keep).unwrap();
        assert_eq!(content(&to), b"");
    }
}

#[test]
fn a_source_that_became_shorter_is_an_error() {
    for place in places() {
        let from = sparse_file(&place.dir, "from", MIB, &[0..MIB]);
        let to = place.dir.create_new(&name("to")).unwrap();
        for sparse in [Sparse::Keep, Sparse::Fill] {
            let err = copy(&from, &to, 2 * MIB, sparse).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn a_copy_can_be_stopped_at_every_eight_mebibytes() {
    for place in places() {
        let from = sparse_file(&place.dir, "from", 20 * MIB, &[0..20 * MIB]);
        let to = place.dir.create_new(&name("to")).unwrap();
        let mut calls = 0;
        let result = copy_content(&from, &to, 20 * MIB, Sparse::Keep, &mut |bytes| {
            assert!(bytes <= 8 * MIB);
            calls += 1;
            match calls {
                2 => Err(io::ErrorKind::Interrupted.into()),
                _ => Ok(()),
            }
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(calls, 2);
    }
}

#[test]
fn files_share_blocks_where_the_filesystem_can() {
    for fs_type in ["btrfs", "xfs"] {
        let Some(mounted) = Mounted::new(fs_type, 400 * MIB) else {
            continue;
        };
        let size = 10 * MIB + 1;
        let from = sparse_file(&mounted.dir, "from", size, &[0..MIB, 9 * MIB..size]);
        let to = sparse_file(&mounted.dir, "to", 20 * MIB, &[0..20 * MIB]);
        let copied = copy(&from, &to, size, Sparse::Keep).unwrap();
        assert_eq!(copied.how, CopyMeans::Reflink);
        assert_eq!(content(&to), content(&from));

        copy(&from, &to, MIB + 7, Sparse::Keep).unwrap();
        assert_eq!(content(&to), content(&from)[..(MIB + 7) as usize]);

        let filled = copy(&from, &to, size, Sparse::Fill).unwrap();
        assert_eq!(filled.how, CopyMeans::ReadWrite);
        assert_eq!(data_ranges(&to, size).unwrap(), [0..size]);
    }
}

#[test]
fn a_clone_that_cannot_be_is_no_error() {
    let places = places();
    if let [one, other] = &places[..] {
        let from = sparse_file(&one.dir, "from", 4096, &[0..4096]);
        let to = other.dir.create_new(&name("to")).unwrap();
        assert!(!clone_file(&from, &to).unwrap());
    }
}

#[test]
fn data_ranges_leave_out_the_holes() {
    for place in places() {
        let file = sparse_file(
            &place.dir,
            "file",
            4 * MIB,
            &[MIB..MIB + 1, 2 * MIB..3 * MIB],
        );
        let ranges = data_ranges(&file, 4 * MIB).unwrap();
        assert_eq!(ranges, [MIB..MIB + 4096, 2 * MIB..3 * MIB]);
        assert_eq!(data_ranges(&file, MIB).unwrap(), []);
        assert_eq!(data_ranges(&file, MIB + 1).unwrap(), [MIB..MIB + 1]);
        assert_eq!(data_ranges(&file, 0).unwrap(), []);
    }
}

#[test]
fn a_punched_range_reads_as_zeros_and_takes_no_space() {
    for place in places() {
        let file = sparse_file(&place.dir, "file", MIB, &[0..MIB]);
        assert!(punch_hole(&file, 4096..MIB).unwrap());
        let content = content(&file);
        assert_eq!(content.len() as u64, MIB);
        assert!(content[4096..].iter().all(|&byte| byte == 0));
        assert_eq!(data_ranges(&file, MIB).unwrap(), [0..4096]);
    }
}

#[test]
fn reserved_space_does_not_show_in_the_length() {
    for place in places() {
        let file = place.dir.create_new(&name("file")).unwrap();
        assert!(allocate(&file, 0).unwrap());
        assert!(allocate(&file, MIB).unwrap());
        let stat = stat_file(&file).unwrap();
        assert_eq!(stat.meta.size, 0);
        assert!(stat.blocks * 512 >= MIB);
    }
}

#[test]
fn more_space_than_there_is_is_an_error_and_takes_none() {
    // Small and our own: nobody else shall find a full disk.
    let Some(mounted) = Mounted::new("ext4", 32 * MIB) else {
        return;
    };
    let file = mounted.dir.create_new(&name("file")).unwrap();
    // What is free to the last byte is not all free for content.
    let volume = rustix::fs::fstatvfs(&mounted.dir).unwrap();
    for too_much in [volume.f_bfree * volume.f_frsize, 40 * MIB, 1 << 43] {
        let err = allocate(&file, too_much).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::StorageFull);
        assert_eq!(stat_file(&file).unwrap().blocks, 0);
    }
    assert!(allocate(&file, MIB).unwrap());
}

#[test]
fn advice_is_taken_for_any_range() {
    for place in places() {
        let file = sparse_file(&place.dir, "file", MIB, &[0..MIB]);
        advise_sequential(&file, 0..MIB).unwrap();
        advise_dont_need(&file, 0..0).unwrap();
        advise_dont_need(&file, 4096..u64::MAX / 2).unwrap();
    }
}
