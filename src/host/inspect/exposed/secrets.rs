//! What is a secret on every host: by names that programs give to keys and passwords, and by what
//! files with keys begin with.

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A secret.
    Secret,
    /// Key material, which may be the public half.
    Key,
    /// Nothing.
    Plain,
}

/// Whole names, in lower case: OpenSSH's private keys, and what clients keep passwords in.
const NAMES: [&str; 22] = [
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_ed25519",
    "id_ed25519_sk",
    "ssh_host_rsa_key",
    "ssh_host_ecdsa_key",
    "ssh_host_ed25519_key",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".git-credentials",
    ".dockercfg",
    ".npmrc",
    ".pypirc",
    ".htpasswd",
    ".vault-token",
    "shadow",
    "gshadow",
    "krb5.keytab",
];

/// Ends of names whose files hold private keys and nothing else.
const ENDS: [&str; 9] = [
    ".kdbx",
    ".kdb",
    ".p12",
    ".pfx",
    ".jks",
    ".keystore",
    ".ppk",
    ".keytab",
    ".ovpn",
];

/// Ends of names whose files hold keys or certificates, private or public.
const KEY_ENDS: [&str; 2] = [".pem", ".key"];

/// Words within names of files that hold data. In source code they are what it is about.
const WORDS: [&str; 4] = ["credential", "secret", "token", "password"];

/// Words that hold one of those and mean something else: tokenizers are models.
const HARMLESS: [&str; 2] = ["tokeniz", "tokenis"];

/// Ends of names of files that hold data.
const DATA: [&str; 15] = [
    "json",
    "jsonc",
    "json5",
    "toml",
    "yaml",
    "yml",
    "ini",
    "conf",
    "cfg",
    "env",
    "properties",
    "xml",
    "txt",
    "bak",
    "old",
];

/// Ends of `.env` files that are examples, to be filled in.
const EXAMPLES: [&str; 4] = [".example", ".sample", ".template", ".dist"];

/// What `name` says, whatever its case. Of programs words mean what they do.
pub(super) fn by_name(name: &[u8], is_program: bool) -> Named {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let ends_in = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let has_word = !is_program && has_secret_word(&name);
    if NAMES.contains(&&*name) || ends_in(&ENDS) || is_env_file(&name) || has_word {
        Named::Secret
    } else if ends_in(&KEY_ENDS) {
        Named::Key
    } else {
        Named::Plain
    }
}

/// `.env`, `.env.production`, `service.env`.
fn is_env_file(name: &str) -> bool {
    let is_env = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
    is_env && !EXAMPLES.iter().any(|end| name.ends_with(end))
}

fn has_secret_word(name: &str) -> bool {
    let stem = name.trim_start_matches('.');
    let is_data = match stem.rsplit_once('.') {
        Some((_, end)) => DATA.contains(&end),
        None => true,
    };
    is_data
        && WORDS.iter().any(|word| name.contains(word))
        && !HARMLESS.iter().any(|word| name.contains(word))
}

/// Whether a line of a file's first bytes begins a private key: PEM of any kind, or age's.
pub(super) fn holds_key(head: &[u8]) -> bool {
    head.split(|&byte| byte == b'\n').any(|line| {
        let is_pem = line.starts_with(b"-----BEGIN ") && contains(line, b"PRIVATE KEY-----");
        is_pem || line.starts_with(b"AGE-SECRET-KEY-")
    })
}

/// Whether a file's first bytes are PEM without a private key: certificates, public keys.
pub(super) fn is_public_key_material(head: &[u8]) -> bool {
    contains(head, b"-----BEGIN ") && !contains(head, b"PRIVATE KEY-----")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "id_rsa",
            "ID_ED25519",
            ".netrc",
            ".pgpass",
            "vault.kdbx",
            ".env",
            ".env.local",
            "app.env",
            "credentials",
            "credentials.json",
            ".credentials",
            "oauth-token",
            "bot_token.txt",
            "client_secret_12.json",
        ] {
            assert_eq!(by_name(name.as_bytes(), false), Named::Secret, "{name}");
        }
        assert_eq!(by_name(b"read-token", true), Named::Plain, "a program");
        for name in ["server.key", "fullchain.pem"] {
            assert_eq!(by_name(name.as_bytes(), false), Named::Key, "{name}");
        }
    }

    #[test]
    fn names_that_only_look_alike_are_not() {
        for name in [
            "id_rsa.pub",
            ".env.example",
            "tokenizer.json",
            "token.rs",
            "secrets.md",
            "environment",
            "key",
            "monkey",
            "config.json",
        ] {
            assert_eq!(by_name(name.as_bytes(), false), Named::Plain, "{name}");
        }
    }

    #[test]
    fn keys_are_known_by_their_first_line() {
        assert!(holds_key(b"-----BEGIN RSA PRIVATE KEY-----\nx"));
        assert!(holds_key(b"-----BEGIN PRIVATE KEY-----"));
        assert!(holds_key(b"# public key: age1\nAGE-SECRET-KEY-1X\n"));
        assert!(!holds_key(b"-----BEGIN CERTIFICATE-----\n"));
        assert!(!holds_key(b"let pem = \"-----BEGIN PRIVATE KEY-----\";"));
        assert!(!holds_key(b""));
        assert!(is_public_key_material(b"-----BEGIN CERTIFICATE-----\n"));
        assert!(!is_public_key_material(b"junk"));
    }
}
