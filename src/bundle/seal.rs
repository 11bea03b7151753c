//! The layers around an archive: zstd, then age, then the file. Both ways, with the keys.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use age::secrecy::SecretString;
use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor, IdentityFile, scrypt, x25519};
use zstd::stream::{Decoder, Encoder};

use super::damaged;
use crate::error::{Error, Result};
use crate::path::escape;

/// Faster than most disks, and about as small as `zstd` makes it without options.
const ZSTD_LEVEL: i32 = 3;

/// The most that the stream's window may be, as a power of two: 128 MiB, what `zstd -d` takes
/// without being asked. Ours have 2 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How an encrypted file begins.
const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// How one begins that is encrypted and written as text.
const ARMOR_MAGIC: &[u8] = b"-----BEGIN AGE";
/// How a zstd stream begins.
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// A passphrase.
#[derive(Clone)]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// Takes a passphrase, which may not be empty.
    pub fn new(text: String) -> Result<Passphrase> {
        if text.is_empty() {
            return Err(Error::Usage("the passphrase is empty".to_string()));
        }
        Ok(Passphrase(SecretString::from(text)))
    }
}

/// Somebody who can open what is sealed for them: an `age1...` public key.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    /// Reads an `age1...` public key.
    pub fn parse(text: &str) -> Result<Recipient> {
        let why = match text.trim() {
            text if text.starts_with("ssh-") => {
                "keys of ssh are not supported: make one with age-keygen"
            }
            text if text.starts_with("AGE-SECRET-KEY-") => {
                "this is a secret key, which opens bundles: keep it to yourself, and give the \
                 public key that belongs to it"
            }
            text => match text.parse() {
                Ok(recipient) => return Ok(Recipient(recipient)),
                Err(_) => "it is no public key of age, as age-keygen writes them",
            },
        };
        // Any other text may be a secret that was given in the wrong place.
        let which = match text.starts_with("age1") {
            true => format!("the recipient {}", escape(text.as_bytes())),
            false => "a recipient".to_owned(),
        };
        Err(Error::Usage(format!("{which} cannot be read: {why}")))
    }

    /// Reads public keys, one on a line; empty lines and those that begin with `#` are skipped.
    pub fn read_file(path: &Path) -> Result<Vec<Recipient>> {
        let shown = path.as_os_str().as_encoded_bytes();
        let text = std::fs::read_to_string(path)
            .map_err(|err| Error::io("read recipients from", shown, err))?;
        let lines = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        keys.map(|(number, line)| {
            Recipient::parse(line)
                .map_err(|err| Error::Usage(format!("{}, line {number}: {err}", escape(shown))))
        })
        .collect()
    }
}

/// A secret key that opens what is sealed for its public key.
pub struct Identity(Box<dyn age::Identity>);

impl Identity {
    /// Reads secret keys, as `age-keygen` writes them.
    pub fn read_file(path: &Path) -> Result<Vec<Identity>> {
        let shown = path.as_os_str().as_encoded_bytes();
        let failed = |err: io::Error| Error::io("read identities from", shown, err);
        let file = File::open(path).map_err(failed)?;
        let identities = IdentityFile::from_buffer(BufReader::new(file))
            .map_err(failed)?
            .into_identities()
            .map_err(|err| failed(io::Error::other(err)))?;
        if identities.is_empty() {
            return Err(Error::Usage(format!(
                "{} holds no secret key of age",
                escape(shown)
            )));
        }
        Ok(identities.into_iter().map(Identity).collect())
    }
}

/// For whom a bundle is sealed.
#[derive(Clone, Default)]
pub enum Seal {
    /// For everyone who gets hold of it.
    #[default]
    Open,
    /// For the holders of keys.
    Recipients(Vec<Recipient>),
    /// For who knows a passphrase.
    Passphrase(Passphrase),
}

/// What it takes to open a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing.
    None,
    /// A secret key.
    Identity,
    /// A passphrase.
    Passphrase,
}

/// What there is to open a bundle with.
#[derive(Default)]
pub struct Keys {
    /// Secret keys; the one that fits is used.
    pub identities: Vec<Identity>,
    /// The passphrase.
    pub passphrase: Option<Passphrase>,
}

/// A file that is written through all layers.
pub(super) struct Sealed<W: Write>(Encoder<'static, Encrypted<W>>);

enum Encrypted<W: Write> {
    No(W),
    Age(Box<StreamWriter<W>>),
}

impl<W: Write> Sealed<W> {
    /// Starts one.
    pub(super) fn new(out: W, seal: &Seal) -> io::Result<Sealed<W>> {
        let encryptor = match seal {
            Seal::Open => None,
            Seal::Recipients(recipients) => {
                let recipients = recipients.iter().map(|one| &one.0 as &dyn age::Recipient);
                Some(Encryptor::with_recipients(recipients).map_err(io::Error::other)?)
            }
            Seal::Passphrase(passphrase) => {
                Some(Encryptor::with_user_passphrase(passphrase.0.clone()))
            }
        };
        let encrypted = match encryptor {
            None => Encrypted::No(out),
            Some(encryptor) => Encrypted::Age(Box::new(encryptor.wrap_output(out)?)),
        };
        let mut encoder = Encoder::new(encrypted, ZSTD_LEVEL)?;
        encoder.include_checksum(true)?;
        // Beside this thread, which reads, hashes and encrypts.
        let threads = thread::available_parallelism().map_or(1, |count| count.get() as u32);
        encoder.multithread(threads.min(4))?;
        Ok(Sealed(encoder))
    }

    /// Ends all layers, without which nobody could open them.
    pub(super) fn finish(self) -> io::Result<W> {
        match self.0.finish()? {
            Encrypted::No(out) => Ok(out),
            Encrypted::Age(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Write for Encrypted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Encrypted::No(out) => out.write(bytes),
            Encrypted::Age(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encrypted::No(out) => out.flush(),
            Encrypted::Age(out) => out.flush(),
        }
    }
}

/// What it takes to open the bundle at `path`.
pub fn protection(path: &Path) -> Result<Protection> {
    let shown = path.as_os_str().as_encoded_bytes();
    let failed = |err| Error::io("read bundle", shown, err);
    let mut file = open_file(path).map_err(failed)?;
    protection_of(&mut file).map_err(failed)
}

/// Opens a bundle's file, which is read from its start more than once.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file, and a bundle is read twice: once to prove it, once to use it",
        )),
    }
}

fn protection_of(file: &mut File) -> io::Result<Protection> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(AGE_MAGIC.len() as u64).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    match start {
        start if start.starts_with(ZSTD_MAGIC) => Ok(Protection::None),
        start if start == AGE_MAGIC => {
            let header = Decryptor::new_buffered(BufReader::new(&*file));
            let is_scrypt = header.map_err(sealed_so)?.is_scrypt();
            file.seek(SeekFrom::Start(0))?;
            Ok(match is_scrypt {
                true => Protection::Passphrase,
                false => Protection::Identity,
            })
        }
        start if start.starts_with(ARMOR_MAGIC) => Err(damaged(
            "it is encrypted and then written as text: 'age -d' makes a bundle of it",
        )),
        _ => Err(damaged("it is no bundle")),
    }
}

/// Opens the layers of a bundle from its start. `progress` is how many bytes of the file have been
/// read.
pub(super) fn unseal<'a>(
    file: &'a mut File,
    keys: &Keys,
    progress: Arc<AtomicU64>,
) -> io::Result<Box<dyn Read + 'a>> {
    let protection = protection_of(file)?;
    let input = BufReader::with_capacity(128 << 10, Counted { file, progress });
    let input: Box<dyn Read + 'a> = match (protection, &keys.passphrase) {
        (Protection::None, _) => return decompressed(input),
        (Protection::Identity, _) if keys.identities.is_empty() => {
            return Err(locked(
                "it is encrypted for keys: give the secret one with --identity",
            ));
        }
        (Protection::Identity, _) => {
            let identities = keys.identities.iter();
            let identities = identities.map(|one| &*one.0 as &dyn age::Identity);
            let decryptor = Decryptor::new_buffered(input).map_err(sealed_so)?;
            Box::new(decryptor.decrypt(identities).map_err(sealed_so)?)
        }
        (Protection::Passphrase, None) => {
            return Err(locked(
                "it is encrypted with a passphrase: give it with --passphrase-file",
            ));
        }
        (Protection::Passphrase, Some(passphrase)) => {
            let identity = scrypt::Identity::new(passphrase.0.clone());
            let identities = std::iter::once(&identity as &dyn age::Identity);
            let decryptor = Decryptor::new_buffered(input).map_err(sealed_so)?;
            Box::new(decryptor.decrypt(identities).map_err(sealed_so)?)
        }
    };
    decompressed(BufReader::with_capacity(128 << 10, Authentic(input)))
}

fn decompressed<'a>(input: impl io::BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut decoder = Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(Box::new(decoder))
}

/// What age decrypts, with words for what it finds wrong.
struct Authentic<R>(R);

impl<R: Read> Read for Authentic<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(|err| match err.kind() {
            io::ErrorKind::InvalidData => {
                damaged("it is cut off or was changed: what is there is not what was encrypted")
            }
            _ => err,
        })
    }
}

/// A file, and how much of it has been read.
struct Counted<'a> {
    file: &'a mut File,
    progress: Arc<AtomicU64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.progress.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What it means that the outer layer cannot be opened.
fn sealed_so(err: DecryptError) -> io::Error {
    match err {
        DecryptError::Io(err) => err,
        DecryptError::NoMatchingKeys => locked("none of the given keys opens it"),
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            locked("the passphrase or key does not open it")
        }
        DecryptError::ExcessiveWork { .. } => {
            damaged("it demands more work of who opens it than any honest one does")
        }
        _ => damaged("its encryption's header makes no sense"),
    }
}

fn locked(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
