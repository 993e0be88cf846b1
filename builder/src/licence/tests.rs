use super::*;
use proptest::prelude::*;

fn of(text: &str) -> Vec<String> {
    Licences::parse("pkg", "src", text).0
}

const HEADER: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

#[test]
fn a_machine_readable_file_declares_the_licences_of_its_files() {
    let text = format!(
        "{HEADER}Files: *\nCopyright: A\nLicense: GPL-2+ or Artistic\n\nFiles: b c\n d\nLicense: Expat\n\n\
         Files: e\nLicense: public-domain\n No copyright.\n\nFiles: f\nLicense: Weird-1.0+ licence\n strange words\n\n\
         License: GPL-2+\n text\n .\n more\n\nLicense: Unused\n nobody has it\n"
    );
    let want = [
        "GPL-2.0-or-later OR Artistic-1.0-Perl",
        "LicenseRef-debian-public-domain",
        "LicenseRef-debian-src-Weird-1.0plus-licence",
        "MIT",
    ];
    assert_eq!(Licences::parse("pkg", "src", &text), (want.map(str::to_owned).to_vec(), Basis::Declared));
}

#[test]
fn the_header_counts_when_no_paragraph_has_files() {
    assert_eq!(of("Format: x\nLicense: ISC\n"), ["ISC"]);
    assert_eq!(of("Format: x\nLicense: ISC\n\nFiles: *\nLicense: Zlib\n"), ["Zlib"]);
}

const BSD_3: &str = "Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
 following conditions are met:
 1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following disclaimer.
 2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following disclaimer
    in the documentation and/or other materials provided with the distribution.
 3. Neither the name of the University nor the names of its contributors may be used to endorse or promote products derived from
    this software without specific prior written permission.
 .
 THIS SOFTWARE IS PROVIDED BY THE REGENTS AND CONTRIBUTORS ``AS IS'' AND ANY EXPRESS OR IMPLIED WARRANTIES ARE DISCLAIMED. IN NO
 EVENT SHALL THE REGENTS BE LIABLE FOR ANY DAMAGES EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.";

#[test]
fn a_name_that_says_nothing_is_looked_up_by_its_text() {
    let named =
        |text: &str| of(&format!("{HEADER}Files: *\nLicense: BSD-like\n\nLicense: BSD-like\n {text}\n"));
    assert_eq!(named(BSD_3), ["BSD-3-Clause"]);
    // A clause more makes another licence of it.
    let more = format!("{BSD_3}\n 4. Alternatively, under the GPL.");
    assert_eq!(named(&more), ["LicenseRef-debian-src-BSD-like"]);
    let advertising = BSD_3.replace(
        "3. ",
        "3. All advertising materials mentioning features or use of this software must display x.\n 4. ",
    );
    assert_eq!(named(&advertising), ["BSD-4-Clause"]);
    // The text may stand beside the name.
    assert_eq!(of(&format!("{HEADER}Files: *\nLicense: none\n {BSD_3}\n")), ["BSD-3-Clause"]);
    let notice = "This is free software under the terms of the GNU General Public License; either version 3, or any later version.";
    assert_eq!(named(notice), ["GPL-3.0-or-later"]);
    assert_eq!(
        named(&format!("{notice}\n As a special exception, all is allowed.")),
        ["LicenseRef-debian-src-BSD-like"]
    );
}

#[test]
fn a_free_form_file_is_searched() {
    let text = format!(
        "This package was debianized by somebody.\n\nIt is free software under the terms of the GNU General Public License as\n\
         published by the Free Software Foundation; either version 2 of the License, or\n (at your option) any later version.\n\n\
         Portions:\n{BSD_3}\n\nSee `/usr/share/common-licenses/GPL-3'."
    );
    let (licences, basis) = Licences::parse("pkg", "src", &text);
    assert_eq!(
        (licences, basis),
        (vec!["BSD-3-Clause".to_owned(), "GPL-2.0-or-later".to_owned()], Basis::Concluded)
    );
}

#[test]
fn what_is_not_understood_is_named_as_such() {
    for text in ["", "All rights reserved.", "Format: x\n\nFiles: *\n", "Format: x"] {
        assert_eq!(
            Licences::parse("libx++", "src", text),
            (vec!["LicenseRef-debian-libxplusplus-copyright".to_owned()], Basis::Unknown),
            "{text:?}"
        );
    }
    assert_eq!(of(&format!("{HEADER}Files: *\nLicense:\n")), ["LicenseRef-debian-src-unnamed"]);
}

#[test]
fn links_stay_in_the_tree() {
    let cases: [(&str, &str, Option<&str>); 5] = [
        ("usr/share/doc/a", "b", Some("usr/share/doc/b/copyright")),
        ("usr/share/doc/a", "../doc/./b/", Some("usr/share/doc/b/copyright")),
        ("usr/share/doc/a", "/usr/share/doc/b", Some("usr/share/doc/b/copyright")),
        ("usr/share/doc/a", "../../../../b", None),
        ("a", "b", None),
    ];
    for (path, target, want) in cases {
        let found = follow(path.as_bytes(), target.as_bytes(), b"/copyright");
        assert_eq!(found.as_deref(), want.map(str::as_bytes), "{path} -> {target}");
    }
}

proptest! {
    #[test]
    fn any_file_has_licences_that_spdx_can_read(
        text in "(Format: x\n|\n\n|Files: \\*\n|License:|( [ -~é]{0,12}\n)|GPL-2\\+|and|or|,|with|\\(|[ -~é\n]{0,9}){0,60}"
    ) {
        let (expressions, _) = Licences::parse("a+b", "s~r", &text);
        prop_assert!(!expressions.is_empty());
        for expression in expressions {
            prop_assert!(spdx::Expression::parse(&expression).is_ok(), "{expression:?}");
        }
    }
}
