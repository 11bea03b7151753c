//! Who may look at the page: this host's people where it listens on loopback, else those who have
//! the token.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};

use crate::error::{Error, Result};

/// Far longer than any token, in bytes.
const TOKEN_MAX_BYTES: u64 = 4 << 10;

/// Parses where to listen: an address and a port, or `localhost` and a port.
pub fn parse_listen(text: &str) -> std::result::Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| "that is no port".to_owned())?;
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse()
        .map_err(|_| "give an address and a port, like 127.0.0.1:9463 or [::1]:9463".to_owned())
}

/// The rules for one listening address.
#[derive(Debug)]
pub(super) struct Access {
    is_loopback: bool,
    /// A keyed hash of the token, and the key: what is compared says nothing of it by its time.
    token: Option<([u8; 32], blake3::Hash)>,
}

impl Access {
    /// Reads the token, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where others could reach the address and there is none, or where others can
    /// read it.
    pub(super) fn open(listen: SocketAddr, token: Option<&Path>) -> Result<Access> {
        let is_loopback = listen.ip().is_loopback();
        if !is_loopback && token.is_none() {
            return Err(Error::Usage(format!(
                "others can reach {listen}: name a file with a token that they must know \
                 (--listen-token FILE), or listen on 127.0.0.1"
            )));
        }
        let token = token.map(read_token).transpose()?;
        Ok(Access { is_loopback, token })
    }

    /// Whether a token is asked for.
    pub(super) fn wants_token(&self) -> bool {
        self.token.is_some()
    }

    /// Judges by the name under which this host was asked. A page of somebody else's can have the
    /// browser ask loopback under a name of its own, and would then read the answer.
    pub(super) fn judge_host(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match self.is_loopback && !host.is_some_and(is_own_name) {
            true => Err(StatusCode::MISDIRECTED_REQUEST),
            false => Ok(()),
        }
    }

    /// Judges by the token.
    pub(super) fn judge_token(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let Some((key, expected)) = &self.token else {
            return Ok(());
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
        // Hashes of `blake3` compare in constant time.
        match given.map(|given| blake3::keyed_hash(key, given)) {
            Some(given) if given == *expected => Ok(()),
            _ => Err(StatusCode::UNAUTHORIZED),
        }
    }
}

/// Whether a `Host` names loopback, on whatever port: that may be the near end of a tunnel.
fn is_own_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn read_token(path: &Path) -> Result<([u8; 32], blake3::Hash)> {
    let bytes = path.as_os_str().as_bytes();
    let failed = |err| Error::io("read the token in", bytes, err);
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    let refuse = |why: &str| {
        let path = crate::path::escape(bytes);
        Err(Error::Usage(format!("the token file {path} {why}")))
    };
    if found.mode() & 0o077 != 0 {
        return refuse("can be read by others: chmod 600");
    }
    let mut text = Vec::new();
    file.take(TOKEN_MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let token = text.trim_ascii();
    // What a header can carry.
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return refuse("must have one line of printable ASCII without spaces");
    }
    let mut key = [0; 32];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())
        .map_err(|err| failed(err.into()))?;
    let hash = blake3::keyed_hash(&key, token);
    Ok((key, hash))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn token_file(temp: &tempfile::TempDir, text: &str, mode: u32) -> PathBuf {
        let path = temp.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn others_need_a_token() {
        let any: SocketAddr = "0.0.0.0:9463".parse().unwrap();
        let refused = Access::open(any, None).unwrap_err().to_string();
        assert!(refused.contains("--listen-token"), "{refused}");
        for near in ["127.0.0.1:0", "127.3.2.1:0", "[::1]:0"] {
            assert!(Access::open(near.parse().unwrap(), None).is_ok(), "{near}");
        }
        for far in ["[::]:0", "10.1.2.3:0", "[2001:db8::1]:0"] {
            assert!(Access::open(far.parse().unwrap(), None).is_err(), "{far}");
        }
    }

    #[test]
    fn a_token_is_secret_and_there() {
        let temp = tempfile::tempdir().unwrap();
        let any: SocketAddr = "0.0.0.0:9463".parse().unwrap();
        let open = |text, mode| Access::open(any, Some(&token_file(&temp, text, mode)));
        assert!(open("secret\n", 0o640).is_err());
        assert!(open("secret\n", 0o604).is_err());
        for text in ["", "\n", "two words\n", "schlüssel\n"] {
            assert!(open(text, 0o600).is_err(), "{text:?}");
        }
        let access = open("secret\n", 0o600).unwrap();
        let judge = |value| access.judge_token(&headers(AUTHORIZATION, value)).is_ok();
        assert!(judge("Bearer secret") && judge("bearer secret"));
        for wrong in [
            "secret",
            "Bearer",
            "Bearer ",
            "Bearer secre",
            "Basic secret",
        ] {
            assert!(!judge(wrong), "{wrong}");
        }
        assert!(access.judge_token(&HeaderMap::new()).is_err());
    }

    #[test]
    fn loopback_answers_to_its_own_names_only() {
        let near = Access::open("127.0.0.1:9463".parse().unwrap(), None).unwrap();
        let judge = |value| near.judge_host(&headers(HOST, value)).is_ok();
        for own in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:9463",
            "[::1]:9463",
            "127.1.1.1",
        ] {
            assert!(judge(own), "{own}");
        }
        for other in [
            "evil.example",
            "evil.example:9463",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
        ] {
            assert!(!judge(other), "{other}");
        }
        assert!(near.judge_host(&HeaderMap::new()).is_err());
    }

    #[test]
    fn where_to_listen_is_an_address_and_a_port() {
        let near: SocketAddr = "127.0.0.1:9463".parse().unwrap();
        assert_eq!(parse_listen("localhost:9463"), Ok(near));
        assert_eq!(parse_listen("127.0.0.1:9463"), Ok(near));
        for wrong in ["", "9463", ":9463", "127.0.0.1", "localhost:x", "host:1"] {
            assert!(parse_listen(wrong).is_err(), "{wrong}");
        }
    }
}
