//! What a churner can do to a tree: one function for each act.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    CWD, FileType, Mode, RenameFlags, XattrFlags, lremovexattr, lsetxattr, mknodat, renameat_with,
};
use rustix::io::Errno;

use super::Churner;
use super::known::Kind;

/// What an act did, for the log, and the paths to look at again. `None`: there was nothing to do it
/// to.
pub type Outcome = io::Result<Option<(String, Vec<PathBuf>)>>;

/// An act: how often it is done, against the others, and what it is called.
pub struct Act {
    pub weight: u64,
    pub name: &'static str,
    pub run: fn(&mut Churner) -> Outcome,
}

const fn act(weight: u64, name: &'static str, run: fn(&mut Churner) -> Outcome) -> Act {
    Act { weight, name, run }
}

/// All acts but those that make room.
pub static ACTS: [Act; 27] = [
    act(12, "create", create),
    act(8, "overwrite", overwrite),
    act(8, "append", append),
    act(6, "write inside", write_inside),
    act(4, "truncate", truncate),
    act(8, "save by rename", save_by_rename),
    act(6, "rename file", rename_file),
    act(2, "rename file over another", rename_over),
    act(2, "exchange", exchange),
    act(5, "rename directory", rename_directory),
    act(1, "rename directory over an empty one", rename_over_empty),
    act(6, "delete file", delete_file),
    act(2, "delete directory", delete_directory),
    act(5, "make directories", make_directories),
    act(3, "chmod file", chmod_file),
    act(2, "chmod directory", chmod_directory),
    act(4, "symlink", make_symlink),
    act(1, "FIFO", make_fifo),
    act(4, "hard link", hard_link),
    act(2, "replace directory by file", directory_to_file),
    act(2, "replace file by directory", file_to_directory),
    act(2, "replace directory by another", directory_to_directory),
    act(1, "burst", burst),
    act(3, "attribute", attribute),
    act(3, "set mtime back", set_mtime_back),
    act(2, "move directory out", move_out),
    act(2, "move directory in", move_in),
];

/// What makes room when there are too many entries.
pub static THIN_OUT: Act = act(0, "delete the fuller directory", delete_fuller);

/// What makes room when there is too much content.
pub static LIGHTEN: Act = act(0, "delete the largest file", delete_largest);

fn told(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn one(path: PathBuf) -> Outcome {
    Ok(Some((told(&path), vec![path])))
}

fn pair(from: PathBuf, to: PathBuf) -> Outcome {
    let text = format!("{} -> {}", told(&from), told(&to));
    Ok(Some((text, vec![from, to])))
}

fn create(churner: &mut Churner) -> Outcome {
    let path = churner.free_path();
    let content = churner.content();
    fs::write(churner.at(&path), content)?;
    one(path)
}

fn overwrite(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(Kind::is_file) else {
        return Ok(None);
    };
    let content = churner.content();
    fs::write(churner.at(&path), content)?;
    one(path)
}

fn append(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(Kind::is_file) else {
        return Ok(None);
    };
    let mut file = OpenOptions::new().append(true).open(churner.at(&path))?;
    let content = churner.content();
    io::Write::write_all(&mut file, &content)?;
    one(path)
}

fn write_inside(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| matches!(kind, Kind::File(1..))) else {
        return Ok(None);
    };
    let file = OpenOptions::new().write(true).open(churner.at(&path))?;
    let at = churner.below(file.metadata()?.len().max(1));
    let length = 1 + churner.below(5000);
    file.write_all_at(&churner.random.bytes(length), at)?;
    one(path)
}

fn truncate(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(Kind::is_file) else {
        return Ok(None);
    };
    let file = OpenOptions::new().write(true).open(churner.at(&path))?;
    // Up to twice the length: what is added is a hole.
    let length = churner.below(2 * file.metadata()?.len() + 1);
    file.set_len(length)?;
    one(path)
}

/// As editors save.
fn save_by_rename(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(Kind::is_file) else {
        return Ok(None);
    };
    let draft = churner.at(&path).with_file_name(".draft~");
    fs::write(&draft, churner.content())?;
    churner.lose(&path)?;
    fs::rename(&draft, churner.at(&path))?;
    one(path)
}

fn rename_file(churner: &mut Churner) -> Outcome {
    let Some(from) = churner.pick(|kind| kind != Kind::Dir) else {
        return Ok(None);
    };
    let to = churner.free_path();
    fs::rename(churner.at(&from), churner.at(&to))?;
    pair(from, to)
}

fn rename_over(churner: &mut Churner) -> Outcome {
    let (Some(from), Some(to)) = (churner.pick(Kind::is_file), churner.pick(Kind::is_file)) else {
        return Ok(None);
    };
    churner.lose(&to)?;
    fs::rename(churner.at(&from), churner.at(&to))?;
    pair(from, to)
}

/// Two entries of any kind take each other's name.
fn exchange(churner: &mut Churner) -> Outcome {
    let (Some(a), Some(b)) = (churner.pick(|_| true), churner.pick(|_| true)) else {
        return Ok(None);
    };
    if a.starts_with(&b) || b.starts_with(&a) {
        return Ok(None);
    }
    let (from, to) = (churner.at(&a), churner.at(&b));
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS) => Ok(None),
        result => {
            result?;
            pair(a, b)
        }
    }
}

fn rename_directory(churner: &mut Churner) -> Outcome {
    let Some(from) = churner.pick(|kind| kind == Kind::Dir) else {
        return Ok(None);
    };
    let to = churner.free_path();
    if to.starts_with(&from) || churner.is_too_deep(&from, &to) {
        return Ok(None);
    }
    fs::rename(churner.at(&from), churner.at(&to))?;
    pair(from, to)
}

fn rename_over_empty(churner: &mut Churner) -> Outcome {
    let Some(from) = churner.pick(|kind| kind == Kind::Dir) else {
        return Ok(None);
    };
    let to = churner.free_path();
    if to.starts_with(&from) || churner.is_too_deep(&from, &to) {
        return Ok(None);
    }
    fs::create_dir(churner.at(&to))?;
    fs::rename(churner.at(&from), churner.at(&to))?;
    pair(from, to)
}

fn delete_file(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind != Kind::Dir) else {
        return Ok(None);
    };
    churner.lose(&path)?;
    fs::remove_file(churner.at(&path))?;
    one(path)
}

fn delete_directory(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind == Kind::Dir) else {
        return Ok(None);
    };
    churner.lose(&path)?;
    fs::remove_dir_all(churner.at(&path))?;
    one(path)
}

/// Finds the one that fills a tree sooner than any one act empties it.
fn delete_fuller(churner: &mut Churner) -> Outcome {
    let picks = [
        churner.pick(|kind| kind == Kind::Dir),
        churner.pick(|kind| kind == Kind::Dir),
    ];
    let picks = picks.into_iter().flatten();
    let Some(path) = picks.max_by_key(|path| churner.known.count_below(path)) else {
        return delete_file(churner);
    };
    churner.lose(&path)?;
    fs::remove_dir_all(churner.at(&path))?;
    one(path)
}

fn delete_largest(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.known.largest() else {
        return Ok(None);
    };
    churner.lose(&path)?;
    fs::remove_file(churner.at(&path))?;
    one(path)
}

fn make_directories(churner: &mut Churner) -> Outcome {
    let path = churner.free_path();
    churner.fill(&path)?;
    one(path)
}

fn chmod_file(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(Kind::is_file) else {
        return Ok(None);
    };
    chmod(churner, path, &[0o600, 0o644, 0o640, 0o755, 0o666])
}

fn chmod_directory(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind == Kind::Dir) else {
        return Ok(None);
    };
    chmod(churner, path, &[0o700, 0o755, 0o750, 0o1777, 0o2755])
}

fn chmod(churner: &mut Churner, path: PathBuf, modes: &[u32]) -> Outcome {
    let mode = modes[churner.below(modes.len() as u64) as usize];
    fs::set_permissions(churner.at(&path), fs::Permissions::from_mode(mode))?;
    let text = format!("{} {mode:04o}", told(&path));
    Ok(Some((text, vec![path])))
}

fn make_symlink(churner: &mut Churner) -> Outcome {
    let nowhere = churner.below(3) == 0;
    let target = churner.pick(|_| !nowhere);
    let target = target.unwrap_or_else(|| "../nowhere".into());
    let path = churner.free_path();
    symlink(&target, churner.at(&path))?;
    pair(path, target)
}

fn make_fifo(churner: &mut Churner) -> Outcome {
    let path = churner.free_path();
    let at = churner.at(&path);
    mknodat(CWD, at, FileType::Fifo, Mode::from(0o640), 0)?;
    one(path)
}

fn hard_link(churner: &mut Churner) -> Outcome {
    let Some(from) = churner.pick(Kind::is_file) else {
        return Ok(None);
    };
    let to = churner.free_path();
    fs::hard_link(churner.at(&from), churner.at(&to))?;
    pair(from, to)
}

fn directory_to_file(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind == Kind::Dir) else {
        return Ok(None);
    };
    churner.lose(&path)?;
    fs::remove_dir_all(churner.at(&path))?;
    fs::write(churner.at(&path), churner.content())?;
    one(path)
}

fn file_to_directory(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind != Kind::Dir) else {
        return Ok(None);
    };
    churner.lose(&path)?;
    fs::remove_file(churner.at(&path))?;
    churner.fill(&path)?;
    one(path)
}

/// The old one goes and one of the same name comes at once.
fn directory_to_directory(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind == Kind::Dir) else {
        return Ok(None);
    };
    churner.lose(&path)?;
    fs::remove_dir_all(churner.at(&path))?;
    churner.fill(&path)?;
    one(path)
}

/// In a new directory, or in one that has others.
fn burst(churner: &mut Churner) -> Outcome {
    let path = match churner.below(2) {
        0 => churner.pick(|kind| kind == Kind::Dir),
        _ => None,
    };
    let path = path.unwrap_or_else(|| churner.free_path());
    let count = 1 + churner.below(churner.bounds.burst);
    fs::create_dir_all(churner.at(&path))?;
    for number in 0..count {
        // Another length for each: two files of one length and one moment of the kernel's clock,
        // exchanged, are the same to whoever does not read them.
        let content = churner.random.bytes(number);
        let name = format!("burst-{}-{number}", churner.count);
        fs::write(churner.at(&path).join(name), content)?;
    }
    let text = format!("{} with {count} files", told(&path));
    Ok(Some((text, vec![path])))
}

fn attribute(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind != Kind::Other) else {
        return Ok(None);
    };
    let name = ["user.a", "user.b"][churner.below(2) as usize];
    let length = churner.below(40);
    let value = churner.random.bytes(length);
    let result = match churner.below(3) {
        0 => lremovexattr(churner.at(&path), name),
        _ => lsetxattr(churner.at(&path), name, &value, XattrFlags::empty()),
    };
    match result {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        result => {
            result?;
            one(path)
        }
    }
}

fn set_mtime_back(churner: &mut Churner) -> Outcome {
    let Some(path) = churner.pick(|kind| kind != Kind::Other) else {
        return Ok(None);
    };
    let nanos = churner.below(1_500_000_000 * 1_000_000_000);
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    File::open(churner.at(&path))?.set_modified(time)?;
    one(path)
}

fn move_out(churner: &mut Churner) -> Outcome {
    let Some(from) = churner.pick(|kind| kind == Kind::Dir) else {
        return Ok(None);
    };
    fs::create_dir_all(&churner.aside)?;
    let to = churner.aside.join(format!("out-{}", churner.count));
    churner.lose(&from)?;
    fs::rename(churner.at(&from), to)?;
    one(from)
}

/// Brings back one that was moved out, changed meanwhile.
fn move_in(churner: &mut Churner) -> Outcome {
    let Ok(entries) = fs::read_dir(&churner.aside) else {
        return Ok(None);
    };
    let mut outside: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    outside.sort();
    let Some(at) = churner.random.number().checked_rem(outside.len() as u64) else {
        return Ok(None);
    };
    let from = &outside[at as usize];
    let to = churner.free_path();
    let changed = from.join(OsStr::from_bytes(b"changed-outside"));
    // Names are exchanged too: a FIFO of that one would wait for a reader.
    let known = changed.symlink_metadata();
    if known.map_or(true, |known| known.is_file()) {
        fs::write(changed, churner.content())?;
    }
    fs::rename(from, churner.at(&to))?;
    one(to)
}
