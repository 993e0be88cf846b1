//! From Debian's short names of licences to SPDX identifiers.
//!
//! The names are those of the machine-readable copyright format (DEP-5, 7.2) and what packagers made of them. A name that
//! means different texts in different packages (`MIT/X11`, `BSD-like`) is not here: [`super::texts`] looks at the text then.

use spdx::identifiers::LICENSES;

/// Names that are no SPDX identifiers, in lower case.
const NAMES: [(&str, &str); 26] = [
    ("apache", "Apache-2.0"),
    // What /usr/share/common-licenses/Artistic says: Perl's wording of version 1.
    ("artistic", "Artistic-1.0-Perl"),
    ("artistic-1", "Artistic-1.0-Perl"),
    ("boost-1.0", "BSL-1.0"),
    ("bsd-2", "BSD-2-Clause"),
    ("bsd2", "BSD-2-Clause"),
    ("2-clause-bsd", "BSD-2-Clause"),
    ("bsd-3", "BSD-3-Clause"),
    ("bsd3", "BSD-3-Clause"),
    ("3-clause-bsd", "BSD-3-Clause"),
    // /usr/share/common-licenses/BSD, that of the University of California without the advertising clause.
    ("bsd", "BSD-3-Clause"),
    ("bsd-4", "BSD-4-Clause"),
    ("cc0", "CC0-1.0"),
    ("expat", "MIT"),
    ("mit-0", "MIT-0"),
    ("openldap-2.8", "OLDAP-2.8"),
    ("perl", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
    ("perl-5", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
    ("psf", "PSF-2.0"),
    ("python", "PSF-2.0"),
    ("sil-1.1", "OFL-1.1"),
    ("sil-ofl-1.1", "OFL-1.1"),
    ("wtfpl-2", "WTFPL"),
    ("w3c-software", "W3C"),
    ("zope", "ZPL-2.1"),
    ("zope-2.1", "ZPL-2.1"),
];

/// Exceptions in lower case, without the word itself; those that name a version of the GPL hold for that one alone.
const EXCEPTIONS: [(&str, Option<&str>, &str); 14] = [
    ("autoconf", Some("GPL-3.0"), "Autoconf-exception-generic-3.0"),
    ("autoconf", Some("GPL-2.0"), "Autoconf-exception-generic"),
    ("autoconf data", Some("GPL-3.0"), "Autoconf-exception-generic-3.0"),
    ("autoconf data", Some("GPL-2.0"), "Autoconf-exception-generic"),
    ("autoconf generic", Some("GPL-3.0"), "Autoconf-exception-generic-3.0"),
    ("autoconf generic", Some("GPL-2.0"), "Autoconf-exception-generic"),
    ("bison", None, "Bison-exception-2.2"),
    ("classpath", None, "Classpath-exception-2.0"),
    ("font", None, "Font-exception-2.0"),
    ("gcc runtime library", Some("GPL-3.0"), "GCC-exception-3.1"),
    ("libtool", None, "Libtool-exception"),
    ("linux syscall note", None, "Linux-syscall-note"),
    ("llvm", None, "LLVM-exception"),
    ("texinfo", None, "Texinfo-exception"),
];

/// The SPDX expression for one licence, with or without an exception: `GPL-3+ with Bison exception`. `None` when there is no
/// identifier that surely means the same.
pub fn spdx(term: &str) -> Option<String> {
    let term = term.trim();
    let (name, exception) = split_exception(term);
    let licence = licence(name)?;
    match exception {
        None => Some(licence),
        // An exception extends one licence.
        Some(_) if licence.contains(' ') => None,
        Some(exception) => Some(format!("{licence} WITH {}", exception_id(exception, &licence)?)),
    }
}

/// `GPL-2+ with X exception`, also written `GPL-2+-with-X-exception`.
fn split_exception(term: &str) -> (&str, Option<&str>) {
    let lower = term.to_ascii_lowercase();
    for joint in [" with ", "-with-"] {
        if let Some((name, exception)) =
            lower.find(joint).and_then(|at| Some((term.get(..at)?, term.get(at + joint.len()..)?)))
        {
            return (name.trim(), Some(exception.trim()));
        }
    }
    (term, None)
}

fn exception_id(exception: &str, licence: &str) -> Option<&'static str> {
    if let Some(known) = spdx::exception_id(exception) {
        return Some(known.name);
    }
    let words = exception.to_ascii_lowercase().replace(['-', '_'], " ");
    let words: Vec<_> = words.split_whitespace().filter(|word| *word != "exception").collect();
    let name = words.join(" ");
    let fits = |version: Option<&str>| version.is_none_or(|version| licence.starts_with(version));
    EXCEPTIONS.iter().find(|(known, version, _)| *known == name && fits(*version)).map(|(_, _, id)| *id)
}

fn licence(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, id)) = NAMES.iter().find(|(known, _)| *known == lower) {
        return Some((*id).to_owned());
    }
    if let Some(id) = gnu(&lower) {
        return Some(id);
    }
    // Debian drops the zero of `Apache-2.0`.
    [lower.clone(), format!("{lower}.0")].iter().find_map(|name| identifier(name)).map(str::to_owned)
}

/// The identifier that a name is but for the case of its letters. Deprecated ones have a better name, and `NOASSERTION` is none.
fn identifier(name: &str) -> Option<&'static str> {
    let license = LICENSES.iter().find(|license| license.name.eq_ignore_ascii_case(name))?;
    let id = spdx::license_id(license.name).filter(|id| !id.is_deprecated())?;
    (id.name != "NOASSERTION").then_some(id.name)
}

/// The licences of the GNU project, by family, version and whether later versions are allowed. Without a version, any may be chosen.
pub fn gnu(lower: &str) -> Option<String> {
    let end = lower.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(lower.len());
    let (family, rest) = lower.split_at_checked(end)?;
    // "GPLv3"
    let (family, infix, earliest) = match family.strip_suffix('v').unwrap_or(family) {
        "gpl" => ("GPL", "", Some("1.0")),
        "lgpl" => ("LGPL", "", Some("2.0")),
        "agpl" => ("AGPL", "", None),
        "gfdl" if rest.starts_with("-niv") => ("GFDL", "-no-invariants", None),
        "gfdl" | "fdl" => ("GFDL", "", Some("1.1")),
        _ => return None,
    };
    let rest = rest.trim_start_matches("-niv").trim_start_matches('-').trim_start_matches('v');
    if rest.is_empty() || rest == "+" {
        return existing(format!("{family}-{}{infix}-or-later", earliest?));
    }
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (version, suffix) = rest.split_at_checked(end)?;
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    let kind = match suffix {
        "" | "-only" => "only",
        "+" | "-or-later" => "or-later",
        _ => return None,
    };
    existing(format!("{family}-{version}{infix}-{kind}"))
}

fn existing(id: String) -> Option<String> {
    spdx::license_id(&id).filter(|found| found.name == id).map(|_| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_names_become_spdx_expressions() {
        for (name, want) in [
            ("GPL-2+", Some("GPL-2.0-or-later")),
            ("GPL-2", Some("GPL-2.0-only")),
            ("GPL-2.0", Some("GPL-2.0-only")),
            ("GPL-2.0+", Some("GPL-2.0-or-later")),
            ("GPL", Some("GPL-1.0-or-later")),
            ("GPLv3+", Some("GPL-3.0-or-later")),
            ("GPL-2.0-or-later", Some("GPL-2.0-or-later")),
            ("LGPL-2.1", Some("LGPL-2.1-only")),
            ("LGPL-2+", Some("LGPL-2.0-or-later")),
            ("LGPL", Some("LGPL-2.0-or-later")),
            ("AGPL-3", Some("AGPL-3.0-only")),
            ("AGPL", None),
            ("GFDL-NIV-1.3", Some("GFDL-1.3-no-invariants-only")),
            ("GFDL-1.3+", Some("GFDL-1.3-or-later")),
            ("GPL-2.7", None),
            ("GPL-2+-or-X11", None),
            ("GPL-3+ with Bison exception", Some("GPL-3.0-or-later WITH Bison-exception-2.2")),
            ("GPL-2+ with Autoconf-data exception", Some("GPL-2.0-or-later WITH Autoconf-exception-generic")),
            ("GPL-3+-with-autoconf-exception", Some("GPL-3.0-or-later WITH Autoconf-exception-generic-3.0")),
            ("GPL-2 with Linux-syscall-note exception", Some("GPL-2.0-only WITH Linux-syscall-note")),
            ("GPL-2+ with distribution exception", None),
            ("Perl with Bison exception", None),
            ("Expat", Some("MIT")),
            ("BSD-3-clause", Some("BSD-3-Clause")),
            ("BSD-4-clause-UC", Some("BSD-4-Clause-UC")),
            ("BSD-2-clause-NetBSD", None),
            ("Apache-2", Some("Apache-2.0")),
            ("zlib", Some("Zlib")),
            ("Ms-PL", Some("MS-PL")),
            ("public-domain", None),
            ("noassertion", None),
            ("MIT/X11", None),
            ("", None),
            ("with", None),
        ] {
            assert_eq!(spdx(name).as_deref(), want, "{name:?}");
        }
    }

    #[test]
    fn the_tables_name_nothing_that_spdx_does_not_have() {
        for (name, expression) in NAMES {
            assert_eq!(name, name.to_lowercase());
            spdx::Expression::parse(expression).unwrap();
        }
        for (name, version, id) in EXCEPTIONS {
            assert!(spdx::exception_id(id).is_some(), "{name}");
            let licence = format!("{}-or-later", version.unwrap_or("GPL-2.0"));
            spdx::Expression::parse(&format!("{licence} WITH {id}")).unwrap();
        }
    }
}
