//! The destination's side of the greeting: refuses what cannot be meant, and settles with the source
//! what both compare.

use crate::apply::{Applier, ApplyOptions, Aside};
use crate::error::{Error, Result};
use crate::events::Side;
use crate::filter::Rules;
use crate::fs::{self, Abilities};
use crate::host::identify;
use crate::manifest::record::RecordRules;
use crate::options::{Compare, Fidelity};
use crate::protocol::conn::Outbox;
use crate::protocol::message::{DestinationHello, FromDestination, Mode, SourceHello};
use crate::session::destination::link::Incoming;
use crate::session::destination::owners::Resolver;
use crate::session::destination::{ContentInline, DestinationRole};
use crate::session::fence::refuse_fenced;
use crate::session::root::{DestinationRoot, refuse_nested};

/// What a destination keeps of what was asked for. What it stores in attributes of its own, it can
/// hold though its filesystem cannot (`fake`).
pub(crate) fn kept(asked: Fidelity, abilities: &Abilities, fake: bool) -> Fidelity {
    Fidelity {
        perms: asked.perms && (abilities.modes || fake),
        xattrs: asked.xattrs && (abilities.user_xattrs || abilities.read_only),
        trusted_xattrs: asked.trusted_xattrs && (abilities.trusted_xattrs || fake),
        security_xattrs: asked.security_xattrs && (abilities.security_xattrs || fake),
        capabilities: asked.capabilities && (abilities.capabilities || fake),
        acls: asked.acls && (abilities.acls || fake),
        hard_links: asked.hard_links && (abilities.hard_links || abilities.read_only),
        symlinks: asked.symlinks && (abilities.symlinks || fake),
        devices: asked.devices && (abilities.devices || fake),
        ..asked
    }
}

impl DestinationRole<'_> {
    pub(super) fn refuse_contradictions(&self) -> Result<()> {
        let keep = &self.options.keep;
        if self.options.write.inplace && (keep.trash.is_some() || keep.backup_suffix.is_some()) {
            return Err(Error::Usage(
                "--inplace leaves no old version that --trash or --backup could keep; use only \
                 one of them"
                    .to_string(),
            ));
        }
        Ok(())
    }

    /// Finds the root, if it is one that the source can be compared with, or written to. Makes
    /// nothing.
    pub(super) fn find_root(&self, hello: &SourceHello) -> Result<DestinationRoot> {
        let root = DestinationRoot::find(self.root, hello.single.as_ref())?;
        if hello.single.is_none() {
            refuse_nested(&hello.identity, &identify(self.root))?;
        }
        if hello.single.is_some() && self.mode != Mode::Sync && self.root.is_dir() {
            return Err(Error::Usage(format!(
                "the source is neither a directory nor a manifest, but {} is a directory; to \
                 compare a file, give the other file's full name",
                self.root.display()
            )));
        }
        if root.dir.is_none() && self.mode != Mode::Sync {
            return Err(Error::io(
                "open destination",
                self.root.as_os_str().as_encoded_bytes(),
                rustix::io::Errno::NOENT,
            ));
        }
        if let Some(dir) = root.dir.as_ref().filter(|_| hello.single.is_none()) {
            refuse_fenced(dir, self.root, Side::Destination, self.mode)?;
        }
        if self.mode == Mode::Sync {
            Aside::check(&root.nearest()?, &self.options.keep)?;
        }
        Ok(root)
    }

    pub(super) fn refuse_read_only(&self, abilities: &Abilities) -> Result<()> {
        if abilities.read_only && self.mode == Mode::Sync {
            return Err(Error::io(
                "write to",
                self.root.as_os_str().as_encoded_bytes(),
                rustix::io::Errno::ROFS,
            ));
        }
        Ok(())
    }

    /// What both sides compare: what was asked for, less what the destination cannot hold. What
    /// that costs is counted, and said, by the source.
    pub(super) fn agree(&self, hello: &SourceHello, abilities: &Abilities) -> RecordRules {
        // Nothing can be tried there, and nothing will be written: all of it is compared.
        let fake = self.options.fake_super || abilities.read_only;
        let fidelity = kept(self.options.fidelity, abilities, fake);
        let content = match self.options.compare {
            Compare::Checksum | Compare::IgnoreTimes => true,
            // Without times the quick check would have only sizes to go by.
            Compare::Quick => !fidelity.times,
            Compare::SizeOnly => false,
        };
        RecordRules {
            fidelity,
            granularity_ns: hello.granularity_ns.max(abilities.mtime_granularity_ns),
            content: content || self.mode == Mode::Verify,
        }
    }

    pub(super) fn filter(&self) -> Result<Rules> {
        let selection = &self.options.selection;
        let mut rules = selection.rules.clone();
        if let Some(suffix) = &self.options.keep.backup_suffix {
            // Backups are not of the source, but not to be deleted either.
            let protect = [b"P *".as_slice(), suffix].concat();
            rules.insert(0, crate::options::RuleText(protect));
        }
        let rules = Rules::parse(&rules)?;
        if self.options.delete.is_some_and(|delete| delete.excluded) {
            return Ok(rules.for_delete_excluded());
        }
        Ok(rules)
    }

    /// Whether there is nothing to compare with.
    pub(super) fn is_empty(&self, root: &DestinationRoot) -> Result<bool> {
        let Some(dir) = &root.dir else {
            return Ok(true);
        };
        let mut empty = true;
        dir.list(&mut fs::ListScratch::new(), &mut |name, _, _| {
            let counts = match &root.single {
                Some(single) => single.as_bytes() == name,
                None => !fs::is_own_name(name),
            };
            empty &= !counts;
        })
        .map_err(|err| Error::io("read", self.root.as_os_str().as_encoded_bytes(), err))?;
        Ok(empty)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all that the first message tells"
    )]
    pub(super) fn say_hello(
        &self,
        hello: &SourceHello,
        root: &DestinationRoot,
        resolver: Resolver,
        rules: RecordRules,
        empty: bool,
        inline: ContentInline,
        outbox: &Outbox,
        shared: &Incoming,
    ) -> Result<()> {
        let owners = hello
            .owners
            .iter()
            .map(|query| resolver.resolve(query))
            .collect();
        shared.resolver.put(resolver);
        outbox.say(&FromDestination::Hello(DestinationHello {
            rules,
            single: root.single.clone(),
            empty,
            content: inline == ContentInline::Yes,
            owners,
        }))
    }

    pub(super) fn applier(
        &self,
        root: &DestinationRoot,
        rules: RecordRules,
        dry_run: bool,
    ) -> Result<Option<Applier>> {
        let Some(dir) = root.dir.as_ref().filter(|_| !dry_run) else {
            return Ok(None);
        };
        let dir = dir
            .try_clone()
            .map_err(|err| Error::io("open", self.root.as_os_str().as_encoded_bytes(), err))?;
        let options = ApplyOptions {
            rules,
            write: self.options.write,
            fake_super: self.options.fake_super,
            aside: Aside::open(&dir, &self.options.keep)?,
            cancel: self.cancel.clone(),
        };
        Ok(Some(Applier::new(dir, options)))
    }
}
