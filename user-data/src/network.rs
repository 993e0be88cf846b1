//! What has to come over the network: user-data behind a URL, and what a plan names.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use image_config::user_data::plan::{Contents, FetchPolicy};
use image_config::user_data::resource::Resource;

use crate::fetch::{FetchError, Fetcher, Manner};
use crate::source::metadata::Metadata;
use crate::source::words::Seed;
use crate::source::{Documents, Remote};

/// Why something is not here.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Something else came.
    #[error("{url}: not what was asked for")]
    Resource {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        source: image_config::user_data::resource::ResourceError,
    },
}

/// Fetches the documents of a source.
///
/// # Errors
/// [`NetworkError`]
pub fn documents(remote: &Remote, deadline: Instant) -> Result<Documents, NetworkError> {
    let fetcher = Fetcher::new(&Manner::default())?;
    match remote {
        Remote::Url(url) => {
            Ok(Documents { user_data: fetcher.get(url, &[], deadline)?, ..Documents::default() })
        }
        Remote::Seed(seed) => of_seed(&fetcher, seed, deadline),
    }
}

/// `user-data` and `meta-data` below the seed's URL; one of them may be missing.
fn of_seed(fetcher: &Fetcher, seed: &Seed, deadline: Instant) -> Result<Documents, NetworkError> {
    let base = seed.base.as_deref().unwrap_or_default();
    let get = |name: &str| match fetcher.get(&format!("{base}{name}"), &[], deadline) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FetchError::Status { status, .. }) if status == reqwest::StatusCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    };
    let told = get("meta-data")?;
    let user_data = match (get("user-data")?, &told) {
        (Some(bytes), _) => bytes,
        (None, Some(_)) => Vec::new(),
        // Neither: the URL is wrong, and the error says which one.
        (None, None) => fetcher.get(&format!("{base}user-data"), &[], deadline)?,
    };
    let mut documents = Documents { user_data, ..Documents::default() };
    match Metadata::of_nocloud(&told.unwrap_or_default()) {
        Ok(metadata) => documents.metadata = metadata,
        Err(problem) => documents.problems.push(problem),
    }
    let own = &mut documents.metadata;
    own.instance_id = seed.instance_id.clone().or(own.instance_id.take());
    own.hostname = seed.hostname.clone().or(own.hostname.take());
    Ok(documents)
}

/// Fetches what a configuration names, all of it or nothing.
///
/// # Errors
/// [`NetworkError`], of the first that did not come.
pub fn resources<'r>(
    wanted: impl IntoIterator<Item = &'r Resource>,
    policy: &FetchPolicy,
    fetched: &mut BTreeMap<Resource, Vec<u8>>,
    deadline: Instant,
) -> Result<(), NetworkError> {
    let wanted: Vec<&Resource> =
        wanted.into_iter().filter(|resource| !fetched.contains_key(*resource)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let manner = manner(policy, fetched, deadline)?;
    let fetcher = Fetcher::new(&manner)?;
    for resource in wanted {
        let bytes = get(&fetcher, resource, policy, deadline)?;
        fetched.insert(resource.clone(), bytes);
    }
    Ok(())
}

fn get(
    fetcher: &Fetcher,
    resource: &Resource,
    policy: &FetchPolicy,
    deadline: Instant,
) -> Result<Vec<u8>, NetworkError> {
    let own = policy.total.map_or(deadline, |total| (Instant::now() + total).min(deadline));
    let bytes = fetcher.get(&resource.url, &resource.headers, own)?;
    resource.accept(bytes).map_err(|source| NetworkError::Resource { url: resource.url.clone(), source })
}

/// How a policy wants requests to be made. Authorities that are remote themselves are fetched first, without their own help.
fn manner(
    policy: &FetchPolicy,
    fetched: &mut BTreeMap<Resource, Vec<u8>>,
    deadline: Instant,
) -> Result<Manner, NetworkError> {
    let mut manner = Manner {
        authorities: Vec::new(),
        answer_limit: Some(policy.response_headers).filter(|limit| *limit > Duration::ZERO),
        http_proxy: policy.proxy.http.clone(),
        https_proxy: policy.proxy.https.clone(),
        no_proxy: policy.proxy.none_for.clone(),
    };
    for authority in &policy.certificate_authorities {
        let text = match authority {
            Contents::Inline(bytes) => bytes.clone(),
            Contents::Remote(resource) => match fetched.get(resource) {
                Some(bytes) => bytes.clone(),
                None => {
                    let bytes = get(&Fetcher::new(&manner)?, resource, policy, deadline)?;
                    fetched.insert(resource.clone(), bytes.clone());
                    bytes
                }
            },
        };
        manner.authorities.push(text);
    }
    Ok(manner)
}
