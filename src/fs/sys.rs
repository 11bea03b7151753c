//! The system calls that neither `rustix` nor the standard library has yet, and so the only
//! `unsafe` of `fs` on trees: those that reach modes and extended attributes by directory and name,
//! of which none follows a symlink; and the one that puts a thread in line for the disks.
//!
//! The former fail with `ENOSYS` on older kernels (`fchmodat2` came with Linux 6.6, the rest with 6.13);
//! who calls has another way.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_long, c_uint};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::path::Arg;

use crate::path::Name;

// System calls since 2019 have one number on all architectures that these are built for.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;
const LISTXATTRAT: c_long = 465;
const REMOVEXATTRAT: c_long = 466;

/// Older than that; an architecture that is not here has the call and no priorities from us.
#[cfg(target_arch = "x86_64")]
const IOPRIO_SET: c_long = 251;
#[cfg(any(
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
))]
const IOPRIO_SET: c_long = 30;
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
)))]
const IOPRIO_SET: c_long = -1;

/// `IOPRIO_WHO_PROCESS`: with 0 for who, the calling thread.
const IOPRIO_WHO_PROCESS: c_int = 1;

/// Bits of a priority below its class.
const IOPRIO_CLASS_SHIFT: c_int = 13;

const AT_SYMLINK_NOFOLLOW: c_uint = 0x100;

unsafe extern "C" {
    /// The C library's `syscall(2)`: -1 and `errno` on failure.
    fn syscall(number: c_long, ...) -> c_long;
}

/// `struct xattr_args` of `linux/xattr.h`.
#[repr(C, align(8))]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// `fchmodat2`; `EOPNOTSUPP` for a symlink.
pub(super) fn chmod_at(dir: BorrowedFd<'_>, name: &Name, mode: u16) -> Result<()> {
    name.as_bytes().into_with_c_str(|name| {
        // SAFETY: `name` is NUL-terminated and outlives the call, which writes to no memory of
        // ours.
        check(unsafe {
            syscall(
                FCHMODAT2,
                dir.as_raw_fd(),
                name.as_ptr(),
                c_uint::from(mode),
                AT_SYMLINK_NOFOLLOW,
            )
        })?;
        Ok(())
    })
}

/// `listxattrat`: writes the NUL-terminated names to the front of `list`, returns their length.
pub(super) fn list_xattr_at(dir: BorrowedFd<'_>, name: &Name, list: &mut [u8]) -> Result<usize> {
    let rest = [list.as_mut_ptr().expose_provenance(), list.len(), 0];
    // SAFETY: `list` is writable for the length given and outlives the call.
    unsafe { xattr_at(LISTXATTRAT, dir, name, rest) }
}

/// `getxattrat`: writes the value to the front of `value`, returns its length.
pub(super) fn get_xattr_at(
    dir: BorrowedFd<'_>,
    name: &Name,
    attribute: &[u8],
    value: &mut [u8],
) -> Result<usize> {
    let args = XattrArgs {
        value: value.as_mut_ptr().expose_provenance() as u64,
        size: u32::try_from(value.len()).map_err(|_| Errno::INVAL)?,
        flags: 0,
    };
    // SAFETY: `args` points to `value`, writable for the size given; both outlive the call.
    attribute.into_with_c_str(|attribute| unsafe {
        xattr_at(GETXATTRAT, dir, name, args.after(attribute))
    })
}

/// `setxattrat`, making or replacing.
pub(super) fn set_xattr_at(
    dir: BorrowedFd<'_>,
    name: &Name,
    attribute: &[u8],
    value: &[u8],
) -> Result<()> {
    let args = XattrArgs {
        value: value.as_ptr().expose_provenance() as u64,
        size: u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?,
        flags: 0,
    };
    // SAFETY: `args` points to `value`, readable for the size given; both outlive the call, which
    // writes to no memory of ours.
    attribute.into_with_c_str(|attribute| unsafe {
        xattr_at(SETXATTRAT, dir, name, args.after(attribute))
    })?;
    Ok(())
}

/// `removexattrat`.
pub(super) fn remove_xattr_at(dir: BorrowedFd<'_>, name: &Name, attribute: &[u8]) -> Result<()> {
    attribute.into_with_c_str(|attribute| {
        let rest = [attribute.as_ptr().expose_provenance(), 0, 0];
        // SAFETY: `attribute` is NUL-terminated and outlives the call, which writes to no memory
        // of ours.
        unsafe { xattr_at(REMOVEXATTRAT, dir, name, rest) }
    })?;
    Ok(())
}

/// `ioprio_set` for the calling thread.
pub(super) fn set_io_priority(class: c_int, level: u8) -> Result<()> {
    let priority = class << IOPRIO_CLASS_SHIFT | c_int::from(level);
    let own: c_int = 0;
    // SAFETY: the call takes three numbers and touches no memory of ours.
    check(unsafe { syscall(IOPRIO_SET, IOPRIO_WHO_PROCESS, own, priority) })?;
    Ok(())
}

impl XattrArgs {
    /// What `getxattrat` and `setxattrat` take after the flags.
    fn after(&self, attribute: &CStr) -> [usize; 3] {
        [
            attribute.as_ptr().expose_provenance(),
            (&raw const *self).expose_provenance(),
            size_of::<XattrArgs>(),
        ]
    }
}

/// One of the `*xattrat` calls, of what `name` itself stands for. All take a directory, a name and
/// flags first; the kernel looks at no more of `rest` than the call has arguments.
///
/// # Safety
///
/// `rest` must hold what the call takes after the flags, and what it points to must stay valid
/// until the call returns: for writing where the call writes.
unsafe fn xattr_at(
    number: c_long,
    dir: BorrowedFd<'_>,
    name: &Name,
    rest: [usize; 3],
) -> Result<usize> {
    name.as_bytes().into_with_c_str(|name| {
        // SAFETY: `name` is NUL-terminated and outlives the call; the caller answers for the rest.
        check(unsafe {
            syscall(
                number,
                dir.as_raw_fd(),
                name.as_ptr(),
                AT_SYMLINK_NOFOLLOW,
                rest[0],
                rest[1],
                rest[2],
            )
        })
    })
}

fn check(ret: c_long) -> Result<usize> {
    usize::try_from(ret)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
