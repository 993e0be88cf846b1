//! Attacks on the metadata, each by its name.
