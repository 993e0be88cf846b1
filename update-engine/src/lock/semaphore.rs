//! locksmith's semaphore: its JSON, byte for byte, and its rules.

use serde::{Deserialize, Serialize};

/// Why the semaphore stays as it is; the messages are locksmith's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SemaphoreError {
    /// Nothing is free.
    #[error("semaphore is at {0}")]
    Full(i64),
    /// Who wants it has it.
    #[error("holder exists")]
    HolderExists,
    /// Who gives it back has not got it.
    #[error("holder does not exist")]
    NoHolder,
    /// Not locksmith's JSON.
    #[error("the semaphore in etcd is damaged: {0}")]
    Damaged(String),
}

/// The semaphore. `semaphore` is what is free; it is negative after `max` was lowered below the number of holders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Semaphore {
    semaphore: i64,
    max: i64,
    /// Sorted. `null` as long as there was never a holder: Go's locksmith writes it so.
    holders: Option<Vec<String>>,
}

impl Default for Semaphore {
    /// As the first client makes it.
    fn default() -> Self {
        Self { semaphore: 1, max: 1, holders: None }
    }
}

impl Semaphore {
    /// Reads it.
    ///
    /// # Errors
    /// [`SemaphoreError::Damaged`]
    pub fn parse(bytes: &[u8]) -> Result<Self, SemaphoreError> {
        let damaged = |error: serde_json::Error| SemaphoreError::Damaged(error.to_string());
        let mut read: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        if let Some(holders) = &mut read.holders {
            holders.sort_unstable();
            holders.dedup();
        }
        Ok(read)
    }

    /// The JSON that etcd gets.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers and strings: there is nothing that serde_json could refuse.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What is free.
    #[must_use]
    pub const fn available(&self) -> i64 {
        self.semaphore
    }

    /// How many may hold it.
    #[must_use]
    pub const fn max(&self) -> i64 {
        self.max
    }

    /// Who holds it, sorted.
    #[must_use]
    pub fn holders(&self) -> &[String] {
        self.holders.as_deref().unwrap_or_default()
    }

    /// Whether `id` is a holder.
    #[must_use]
    pub fn is_held_by(&self, id: &str) -> bool {
        self.holders().iter().any(|holder| holder == id)
    }

    /// `id` becomes a holder.
    ///
    /// # Errors
    /// In locksmith's order: [`SemaphoreError::Full`] also for one that is a holder already, then [`SemaphoreError::HolderExists`].
    pub fn lock(&mut self, id: &str) -> Result<(), SemaphoreError> {
        let count = i64::try_from(self.holders().len()).unwrap_or(i64::MAX);
        // The number alone decides for locksmith. Where somebody has written one that does not fit the list, the list counts, too.
        if self.semaphore <= 0 || (count >= self.max && !self.is_held_by(id)) {
            return Err(SemaphoreError::Full(self.semaphore.min(0)));
        }
        if self.is_held_by(id) {
            return Err(SemaphoreError::HolderExists);
        }
        let holders = self.holders.get_or_insert_default();
        let place = holders.partition_point(|holder| holder.as_str() < id);
        holders.insert(place, id.to_owned());
        self.semaphore -= 1;
        Ok(())
    }

    /// `id` is a holder no more.
    ///
    /// # Errors
    /// [`SemaphoreError::NoHolder`]
    pub fn unlock(&mut self, id: &str) -> Result<(), SemaphoreError> {
        let holders = self.holders.get_or_insert_default();
        let place = holders.iter().position(|holder| holder == id).ok_or(SemaphoreError::NoHolder)?;
        holders.remove(place);
        self.semaphore += 1;
        Ok(())
    }

    /// Another number of holders is allowed; none of those there are is put out. Returns the old number.
    pub const fn set_max(&mut self, max: i64) -> i64 {
        let old = self.max;
        self.semaphore = self.semaphore.saturating_add(max.saturating_sub(old));
        self.max = max;
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_json_is_locksmiths() {
        let mut semaphore = Semaphore::default();
        let json = |semaphore: &Semaphore| String::from_utf8(semaphore.to_bytes()).unwrap();
        assert_eq!(json(&semaphore), r#"{"semaphore":1,"max":1,"holders":null}"#);
        semaphore.lock("b").unwrap();
        assert_eq!(json(&semaphore), r#"{"semaphore":0,"max":1,"holders":["b"]}"#);
        assert_eq!(semaphore.lock("b"), Err(SemaphoreError::Full(0)), "as locksmith has it");
        assert_eq!(semaphore.set_max(3), 1);
        assert_eq!(semaphore.lock("b"), Err(SemaphoreError::HolderExists));
        semaphore.lock("a").unwrap();
        assert_eq!(json(&semaphore), r#"{"semaphore":1,"max":3,"holders":["a","b"]}"#);
        semaphore.set_max(1);
        assert_eq!(semaphore.lock("c").unwrap_err().to_string(), "semaphore is at -1");
        semaphore.unlock("b").unwrap();
        assert_eq!(semaphore.unlock("b").unwrap_err().to_string(), "holder does not exist");
        semaphore.unlock("a").unwrap();
        assert_eq!(json(&semaphore), r#"{"semaphore":1,"max":1,"holders":[]}"#);
    }

    #[test]
    fn what_others_have_written_is_understood() {
        let read = Semaphore::parse(br#"{"semaphore":1,"max":3,"holders":["z","a"],"more":1}"#).unwrap();
        assert_eq!(read.holders(), ["a", "z"]);
        // A number that promises more than the list has room for.
        let mut wrong = Semaphore::parse(br#"{"semaphore":5,"max":1,"holders":["a"]}"#).unwrap();
        assert!(matches!(wrong.lock("b"), Err(SemaphoreError::Full(_))));
        assert!(matches!(Semaphore::parse(b"1"), Err(SemaphoreError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn free_and_taken_add_up_and_no_more_than_max_get_in(steps in proptest::collection::vec((0_u8..3, 0_u8..5, 0_i64..4), 0..60)) {
            let mut semaphore = Semaphore::default();
            for (kind, who, max) in steps {
                let before = semaphore.clone();
                let id = who.to_string();
                match kind {
                    0 => {
                        if semaphore.lock(&id).is_ok() {
                            prop_assert!(i64::try_from(semaphore.holders().len()).unwrap() <= semaphore.max());
                        } else {
                            prop_assert_eq!(&semaphore, &before);
                        }
                    }
                    1 => { let _ = semaphore.unlock(&id); }
                    _ => { semaphore.set_max(max); }
                }
                prop_assert_eq!(semaphore.available(), semaphore.max() - i64::try_from(semaphore.holders().len()).unwrap());
                prop_assert!(semaphore.holders().is_sorted());
                prop_assert_eq!(&Semaphore::parse(&semaphore.to_bytes()).unwrap(), &semaphore);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Semaphore::parse(&bytes).is_ok();
        }
    }
}
