//! What a clock on the wall shows, which the standard library does not know.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_long};
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment of the week in the local time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Days since Monday.
    pub weekday: u8,
    /// Minutes since midnight.
    pub minute: u16,
}

/// `struct tm` of glibc and musl, which `localtime_r` fills.
#[repr(C)]
struct Tm {
    sec: c_int,
    min: c_int,
    hour: c_int,
    mday: c_int,
    mon: c_int,
    year: c_int,
    wday: c_int,
    yday: c_int,
    isdst: c_int,
    gmtoff: c_long,
    zone: *const c_char,
}

unsafe extern "C" {
    fn tzset();
    fn localtime_r(time: *const i64, result: *mut Tm) -> *mut Tm;
}

impl LocalTime {
    /// The local time at a moment; `None` where it cannot be told.
    pub fn at(moment: SystemTime) -> Option<LocalTime> {
        let secs = moment.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let secs = i64::try_from(secs).ok()?;
        let mut tm = MaybeUninit::<Tm>::uninit();
        // SAFETY: `tzset` reads the environment, which nobody here writes to.
        unsafe { tzset() };
        // SAFETY: `secs` is a `time_t` on all 64-bit targets and `tm` has the layout and size of
        // the C library's; both outlive the call. A result that is not null points to `tm`, filled.
        let tm = unsafe {
            if localtime_r(&raw const secs, tm.as_mut_ptr()).is_null() {
                return None;
            }
            tm.assume_init()
        };
        let (hour, min) = (u16::try_from(tm.hour).ok()?, u16::try_from(tm.min).ok()?);
        Some(LocalTime {
            // C's weeks begin on Sunday.
            weekday: u8::try_from((tm.wday + 6) % 7).ok()?,
            minute: hour * 60 + min,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_on_the_wall_is_that_of_date() {
        let moment = SystemTime::now();
        let secs = moment.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let said = Command::new("date")
            .args(["-d", &format!("@{secs}"), "+%u %H %M"])
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let numbers: Vec<u16> = said
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        let local = LocalTime::at(moment).unwrap();
        assert_eq!(u16::from(local.weekday) + 1, numbers[0]);
        assert_eq!(local.minute, numbers[1] * 60 + numbers[2]);
    }

    #[test]
    fn the_time_before_all_time_is_none() {
        assert_eq!(LocalTime::at(UNIX_EPOCH - Duration::from_secs(1)), None);
    }
}
