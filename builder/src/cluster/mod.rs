//! Several machines on a private network of their own, held by one owner process.
//!
//! [`layout`] says who is who, [`seed`] what each machine is told, [`owner`] runs the machines and answers requests
//! ([`protocol`]), [`client`] asks. Where to start reading: [`owner::Owner`].

pub mod certs;
pub mod client;
mod health;
pub mod janitor;
pub mod layout;
mod links;
mod machine;
pub mod owner;
pub mod plan;
pub mod protocol;
pub mod seed;
mod timeline;
