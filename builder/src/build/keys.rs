//! Who signs an image, and whom it trusts.

use image_config::recipe::{Recipe, SigningKey};

use crate::signing::{PublicKey, SigningError, SlotSigner};

/// Signer and trusted keys of a recipe.
pub(super) struct Keys {
    pub signer: SlotSigner,
    pub trusted: Vec<PublicKey>,
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
        Ok(Self { signer, trusted })
    }
}
