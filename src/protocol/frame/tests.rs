//! What bytes a frame is, and which frames are refused.

use super::*;
use crate::digest::ContentHash;
use crate::entry::{EntryKind, Metadata, Timestamp};
use crate::manifest::record::Entry;
use crate::path::Name;
use crate::protocol::message::FromDestination;

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn file(name: &str, size: u64) -> Entry {
    Entry {
        name: Name::new(name.as_bytes()).unwrap(),
        meta: Metadata {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            size,
            rdev: (0, 0),
        },
        target: Vec::new(),
        xattrs: Vec::new(),
        content: None,
        link: None,
    }
}

/// Takes a frame's wire form apart as the other end does.
fn received(wire: &[u8]) -> Result<Frame> {
    let (header, body) = wire.split_first_chunk::<HEADER>().unwrap();
    let (len, kind) = parse_header(*header)?;
    assert_eq!(len, body.len());
    decode(kind, body.to_vec())
}

/// Splits a batch's wire form into what follows the frame's header.
fn batch_body(files: &[(&str, u64)], contents: &[u8]) -> Vec<u8> {
    let batch = Batch {
        dir: path("d"),
        files: files
            .iter()
            .map(|(name, size)| (file(name, *size), ContentHash::default()))
            .collect(),
    };
    encode_batch(&batch, contents).unwrap()[HEADER..].to_vec()
}

#[test]
fn a_message_is_its_length_its_kind_and_postcard() {
    let wire = encode_message(&FromDestination::Credit(300)).unwrap();
    // Variant 8, and 300 as a varint.
    assert_eq!(wire, [3, 0, 0, 0, 1, 8, 0xac, 0x02]);
    let frame = received(&wire).unwrap();
    assert_eq!(frame.kind, FrameKind::Message);
    assert_eq!(
        decode_message::<FromDestination>(&frame.body).unwrap(),
        FromDestination::Credit(300)
    );
}

#[test]
fn a_piece_of_a_file_is_its_number_its_offset_and_its_bytes() {
    let wire = encode_data(7, 0x0102, b"xyz");
    let expected = [
        &[19, 0, 0, 0, 2][..],
        &[7, 0, 0, 0, 0, 0, 0, 0],
        &[2, 1, 0, 0, 0, 0, 0, 0],
        b"xyz",
    ];
    assert_eq!(wire, expected.concat());
    assert_eq!(
        decode_data(&wire[HEADER..]).unwrap(),
        (7, 0x0102, &b"xyz"[..])
    );
}

#[test]
fn a_piece_whose_header_is_cut_is_refused() {
    assert!(decode_data(&[0; 15]).is_err());
    assert!(decode_data(&[0; 16]).is_ok());
}

#[test]
fn a_longer_body_than_allowed_is_refused_by_its_header() {
    let header = |len: u32| {
        let [a, b, c, d] = len.to_le_bytes();
        parse_header([a, b, c, d, FrameKind::Data as u8])
    };
    assert!(header(MAX_BODY as u32).is_ok());
    assert!(header(MAX_BODY as u32 + 1).is_err());
    assert!(header(u32::MAX).is_err());
}

#[test]
fn an_unknown_kind_is_refused() {
    for kind in [0, 5, 0x7f, COMPRESSED, COMPRESSED | 5] {
        assert!(parse_header([0, 0, 0, 0, kind]).is_err(), "{kind}");
    }
}

#[test]
fn a_compressed_frame_comes_out_as_it_went_in() {
    let wire = encode_data(1, 0, &[b'a'; 4096]);
    let small = compress(&wire);
    assert!(small.len() < 100);
    assert_eq!(small[4], FrameKind::Data as u8 | COMPRESSED);
    let frame = received(&small).unwrap();
    assert_eq!(frame.kind, FrameKind::Data);
    assert_eq!(frame.body, wire[HEADER..]);
}

#[test]
fn what_hardly_shrinks_stays_as_it_is() {
    let mut noise = vec![0; 4096];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let wire = encode_data(1, 0, &noise);
    assert_eq!(compress(&wire), wire);
}

#[test]
fn a_compressed_body_that_would_be_too_long_is_refused() {
    let bomb = zstd::bulk::compress(&vec![0; MAX_BODY + 1], 1).unwrap();
    assert!(decode(FrameKind::Data as u8 | COMPRESSED, bomb).is_err());
    let fits = zstd::bulk::compress(&vec![0; MAX_BODY], 1).unwrap();
    assert!(decode(FrameKind::Data as u8 | COMPRESSED, fits).is_ok());
}

#[test]
fn bytes_after_a_message_are_refused() {
    let mut wire = encode_message(&FromDestination::ListLinks).unwrap();
    wire.push(0);
    assert!(decode_message::<FromDestination>(&wire[HEADER..]).is_err());
}

#[test]
fn a_batch_gives_each_file_its_content() {
    let body = batch_body(&[("a", 2), ("b", 0), ("c", 3)], b"aaccc");
    let (batch, contents) = decode_batch(&body).unwrap();
    let sizes: Vec<u64> = batch.files.iter().map(|(file, _)| file.meta.size).collect();
    assert_eq!(sizes, [2, 0, 3]);
    assert_eq!(contents, b"aaccc");
    assert_eq!(decode_batch_dir(&body).unwrap(), path("d"));
}

#[test]
fn a_batch_whose_sizes_do_not_add_up_is_refused() {
    for (files, contents) in [
        (&[("a", 3)][..], &b"aa"[..]),
        (&[("a", 1)], b"aa"),
        (&[], b"a"),
        // The sum wraps around to the right length.
        (&[("a", u64::MAX), ("b", 3)], b"aa"),
    ] {
        assert!(decode_batch(&batch_body(files, contents)).is_err());
    }
}

#[test]
fn a_batch_whose_header_is_cut_is_refused() {
    let mut body = batch_body(&[("a", 2)], b"aa");
    body[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode_batch(&body).is_err());
    assert!(decode_batch(&[1, 0]).is_err());
}
