//! How content travels and how it is written.

use clap::{Args, ValueEnum};

use crate::options::{Compress, DeltaMode, Fsync, Transfer, Write};

use crate::units::{parse_rate, parse_size};

/// The smallest delta block, in bytes: below it the sums outweigh what they save.
const MIN_BLOCK_BYTES: u64 = 2 << 10;

/// The largest delta block, in bytes: above it one changed byte costs too much.
const MAX_BLOCK_BYTES: u64 = 256 << 10;

/// Delta, compression, durability.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Transfer")]
pub(crate) struct TransferFlags {
    /// Send changed files whole, without looking for what the destination has of them
    ///
    /// The default for local copies.
    #[arg(short = 'W', long, overrides_with = "no_whole_file")]
    whole_file: bool,

    /// Send only what changed in a file, even between local directories
    ///
    /// The default over a connection.
    #[arg(long)]
    no_whole_file: bool,

    /// Compare files in blocks of SIZE: a power of two from 2K to 256K
    ///
    /// Near the square root of a file's size unless given.
    #[arg(short = 'B', long, value_name = "SIZE", value_parser = parse_block_size)]
    block_size: Option<u32>,

    /// When to compress what is sent
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    compress: CompressWhen,

    /// Same as --compress always
    #[arg(short = 'z', conflicts_with = "compress")]
    compress_always: bool,

    /// When what was written is made durable
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    fsync: FsyncWhen,

    /// Change files in place instead of replacing them by a new version
    ///
    /// For files too large to exist twice. Whoever reads one meanwhile sees a mixture of old and
    /// new, and so does everyone after an interrupted run, until it is repeated.
    #[arg(long)]
    inplace: bool,
}

/// How much may be sent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Transfer")]
pub(crate) struct BandwidthFlag {
    /// Send at most RATE of content a second, in KiB or with a unit (1.5M)
    ///
    /// Units as for --max-size; 0 is no limit, which is the default.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    bwlimit: Option<u64>,
}

impl BandwidthFlag {
    /// The most content bytes a second.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.bwlimit.filter(|&rate| rate > 0)
    }
}

/// `--compress`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum CompressWhen {
    /// When a sample shows that it pays and the link is the limit
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// `--fsync`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum FsyncWhen {
    /// All of it before the run reports success
    #[default]
    End,
    /// Each file before it takes its name
    Each,
    /// Not at all: a power failure may lose it
    None,
}

impl TransferFlags {
    /// How content travels.
    pub(crate) fn transfer(&self) -> Transfer {
        Transfer {
            delta: match (self.whole_file, self.no_whole_file) {
                (true, _) => DeltaMode::Never,
                (false, true) => DeltaMode::Always,
                (false, false) => DeltaMode::Auto,
            },
            block_bytes: self.block_size,
            bandwidth_bytes_per_s: None,
            compress: match self.compress {
                _ if self.compress_always => Compress::Always,
                CompressWhen::Auto => Compress::Auto,
                CompressWhen::Always => Compress::Always,
                CompressWhen::Never => Compress::Never,
            },
        }
    }

    /// How it is written.
    pub(crate) fn write(&self) -> Write {
        Write {
            fsync: match self.fsync {
                FsyncWhen::End => Fsync::End,
                FsyncWhen::Each => Fsync::Each,
                FsyncWhen::None => Fsync::None,
            },
            inplace: self.inplace,
        }
    }
}

fn parse_block_size(text: &str) -> Result<u32, String> {
    let size = parse_size(text)?;
    if !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&size) || !size.is_power_of_two() {
        return Err("give a power of two from 2K to 256K".to_owned());
    }
    Ok(size as u32)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn transfer(args: &[&str]) -> Transfer {
        parse::<TransferFlags>(args).unwrap().transfer()
    }

    fn write(args: &[&str]) -> Write {
        parse::<TransferFlags>(args).unwrap().write()
    }

    #[test]
    fn defaults_are_the_librarys() {
        assert_eq!(transfer(&[]), Transfer::default());
        assert_eq!(write(&[]), Write::default());
    }

    #[test]
    fn the_later_of_whole_and_delta_counts() {
        let delta = |args| transfer(args).delta;
        assert_eq!(delta(&["-W"]), DeltaMode::Never);
        assert_eq!(delta(&["--whole-file"]), DeltaMode::Never);
        assert_eq!(delta(&["--no-whole-file"]), DeltaMode::Always);
        assert_eq!(delta(&["-W", "--no-whole-file"]), DeltaMode::Always);
        assert_eq!(delta(&["--no-whole-file", "-W"]), DeltaMode::Never);
    }

    #[test]
    fn blocks_are_powers_of_two_in_range() {
        assert_eq!(transfer(&["--block-size=2K"]).block_bytes, Some(2048));
        assert_eq!(transfer(&["-B", "262144"]).block_bytes, Some(262_144));
        for bad in ["1K", "3K", "512K", "0", "x"] {
            assert!(parse::<TransferFlags>(&["-B", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rate_is_in_kib_and_zero_is_no_limit() {
        let rate = |value| {
            parse::<BandwidthFlag>(&["--bwlimit", value])
                .unwrap()
                .limit()
        };
        assert_eq!(rate("100"), Some(102_400));
        assert_eq!(rate("1.5m"), Some(3 << 19));
        assert_eq!(rate("0"), None);
    }

    #[test]
    fn compression_is_a_choice_of_three() {
        let compress = |args| transfer(args).compress;
        assert_eq!(compress(&["-z"]), Compress::Always);
        assert_eq!(compress(&["--compress", "always"]), Compress::Always);
        assert_eq!(compress(&["--compress=never"]), Compress::Never);
        assert_eq!(compress(&["--compress=auto"]), Compress::Auto);
        assert!(parse::<TransferFlags>(&["--compress=gzip"]).is_err());
        assert!(parse::<TransferFlags>(&["-z", "--compress=never"]).is_err());
    }

    #[test]
    fn durability_is_a_choice_of_three() {
        assert_eq!(write(&["--fsync=end"]).fsync, Fsync::End);
        assert_eq!(write(&["--fsync", "each"]).fsync, Fsync::Each);
        assert_eq!(write(&["--fsync=none"]).fsync, Fsync::None);
        assert!(parse::<TransferFlags>(&["--fsync"]).is_err());
        assert!(write(&["--inplace"]).inplace);
    }
}
