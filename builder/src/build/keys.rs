//! Who signs an image, and whom it trusts.

use image_config::recipe::{Recipe, SigningKey};
use update_engine::channel::metadata::{Envelope, Root};

use crate::signing::{PublicKey, SigningError, SlotSigner, development_channel_root};

/// Signer and trusted keys of a recipe.
pub(super) struct Keys {
    pub signer: SlotSigner,
    pub trusted: Vec<PublicKey>,
    /// Root metadata of the channel that machines trust.
    pub channel_root: Vec<u8>,
}

/// A machine with a root that it cannot read would never take an update.
fn check_channel_root(bytes: &[u8]) -> Result<(), SigningError> {
    let envelope = Envelope::parse(bytes).map_err(SigningError::ChannelRoot)?;
    Root::read(&envelope).map(|_| ()).map_err(SigningError::ChannelRoot)
}

impl Keys {
    /// Reads the key files of a recipe.
    ///
    /// # Errors
    /// One of them cannot be read or is no key.
    pub fn load(recipe: &Recipe) -> Result<Self, SigningError> {
        let signer = match &recipe.keys.signing {
            SigningKey::Development => SlotSigner::development()?,
            SigningKey::File(path) => SlotSigner::load(&recipe.folder.join(path))?,
        };
        let mut trusted = vec![signer.public()];
        for path in &recipe.keys.trusted {
            let key = PublicKey::load(&recipe.folder.join(path))?;
            if !trusted.contains(&key) {
                trusted.push(key);
            }
        }
        let channel_root = match &recipe.keys.channel {
            Some(path) => {
                let path = recipe.folder.join(path);
                std::fs::read(&path).map_err(|source| SigningError::Read { path, source })?
            }
            None => development_channel_root()?,
        };
        check_channel_root(&channel_root)?;
        Ok(Self { signer, trusted, channel_root })
    }
}
