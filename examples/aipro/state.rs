//! Where the state is, what is in it, and the ways in which it can be wrong.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The state directory of a profile.
pub(crate) struct Place {
    pub(crate) profile: Option<String>,
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn find(profile: Option<String>) -> Place {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
        let dir = match (std::env::var_os("AIPRO_STATE_DIR"), &profile) {
            (Some(dir), _) if !dir.is_empty() => PathBuf::from(dir),
            (_, Some(name)) => home.join(format!(".aipro-{name}")),
            (_, None) => home.join(".aipro"),
        };
        Place { profile, dir }
    }

    pub(crate) fn config(&self) -> Result<Value, String> {
        let file = self.dir.join("aipro.json");
        let text = fs::read_to_string(&file)
            .map_err(|err| format!("{}: {err}; run `aipro onboard`", file.display()))?;
        serde_json::from_str(&text).map_err(|err| format!("{}: {err}", file.display()))
    }

    pub(crate) fn workspace(&self, config: &Value) -> PathBuf {
        match config["workspace"].as_str() {
            Some(path) => PathBuf::from(path),
            None => self.dir.join("workspace"),
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("agents/main/memory.sqlite")
    }

    pub(crate) fn sessions(&self) -> PathBuf {
        self.dir.join("agents/main/sessions")
    }

    /// Everything that a gateway insists on before it starts.
    pub(crate) fn insist(&self) -> Result<Value, String> {
        let config = self.config()?;
        let meta = fs::metadata(&self.dir).map_err(|err| err.to_string())?;
        let me = rustix::process::geteuid().as_raw();
        if meta.uid() != me {
            return Err(format!(
                "{} belongs to user {}, not to {me} who runs the gateway",
                self.dir.display(),
                meta.uid()
            ));
        }
        let named = config["profile"].as_str();
        if named != self.profile.as_deref() {
            return Err(format!(
                "the state is of profile {}, not of {}",
                named.unwrap_or("(none)"),
                self.profile.as_deref().unwrap_or("(none)")
            ));
        }
        if config["gateway"]["mode"] == "remote" {
            return Err(format!(
                "the gateway is on {}",
                config["gateway"]["remote"]["url"]
                    .as_str()
                    .unwrap_or("another host")
            ));
        }
        let token = self.dir.join("credentials/token");
        let meta = fs::metadata(&token).map_err(|err| format!("{}: {err}", token.display()))?;
        if meta.mode() & 0o077 != 0 {
            return Err(format!("{} can be read by others", token.display()));
        }
        Ok(config)
    }
}

/// Makes a state and a workspace.
pub(crate) fn onboard(place: &Place) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", place.dir.display());
    if place.dir.join("aipro.json").exists() {
        return Err(format!("{} is set up already", place.dir.display()));
    }
    for dir in ["credentials", "agents/main/sessions", "workspace/memory"] {
        fs::create_dir_all(place.dir.join(dir)).map_err(failed)?;
    }
    let port = std::env::var("AIPRO_PORT")
        .ok()
        .and_then(|text| text.parse::<u16>().ok());
    let config = json!({
        "version": 1,
        "profile": place.profile,
        "gateway": { "mode": "local", "port": port.unwrap_or(18_789) },
        "channels": { "telegram": { "login": "credentials/telegram.json" } },
    });
    let write = |name: &str, text: &str| fs::write(place.dir.join(name), text).map_err(failed);
    write("aipro.json", &format!("{config:#}\n"))?;
    write("credentials/token", "token-of-the-gateway\n")?;
    write("credentials/telegram.json", "{\"login\": \"kept\"}\n")?;
    write("workspace/MEMORY.md", "# What is remembered\n")?;
    write("workspace/USER.md", "# Who is served\n")?;
    write("workspace/memory/today.md", "Nothing yet.\n")?;
    for secret in [
        "credentials/token",
        "credentials/telegram.json",
        "aipro.json",
    ] {
        private(&place.dir.join(secret), 0o600).map_err(failed)?;
    }
    private(&place.dir.join("credentials"), 0o700).map_err(failed)?;
    private(&place.dir, 0o700).map_err(failed)
}

fn private(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Applies migrations. What the config names is repaired wherever it is: run on a copy whose
/// config names the original, this changes the original.
pub(crate) fn doctor(place: &Place) -> Result<(), String> {
    let mut config = place.config()?;
    let workspace = place.workspace(&config);
    fs::create_dir_all(&workspace)
        .and_then(|()| fs::write(workspace.join(".doctor"), "looked after\n"))
        .map_err(|err| format!("{}: {err}", workspace.display()))?;
    if config["version"] == 1 {
        config["version"] = json!(2);
        let file = place.dir.join("aipro.json");
        let temp = place.dir.join("aipro.json.new");
        fs::write(&temp, format!("{config:#}\n"))
            .and_then(|()| private(&temp, 0o600))
            .and_then(|()| fs::rename(&temp, &file))
            .map_err(|err| format!("{}: {err}", file.display()))?;
        println!("migrated the configuration to version 2");
    }
    place.insist()?;
    println!("all is well");
    Ok(())
}
