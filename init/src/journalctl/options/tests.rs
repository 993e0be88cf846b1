use super::*;

fn parse(line: &str) -> Result<Options, String> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Options::parse(&words, 1_795_661_769_000_000)
}

#[test]
fn options_have_long_short_and_bundled_forms() {
    let options = parse("-fu ssh --unit=etcd* -n5 -perr -o json --no-pager MESSAGE_ID=x + _PID=1").unwrap();
    assert_eq!(options.filter.units, ["ssh.service", "etcd*"]);
    assert_eq!((options.follow, options.lines, options.filter.levels), (true, Some(Some(5)), Some(0b1111)));
    assert_eq!((options.format, options.filter.groups.len()), (Format::Json, 2));
    let options = parse("-n -u a").unwrap();
    assert_eq!((options.lines, options.filter.units.len()), (Some(Some(10)), 1));
    assert_eq!(parse("-n all").unwrap().lines, Some(None));
    assert_eq!(parse("-f").unwrap().lines, Some(Some(10)));
    assert_eq!(parse("-f --since -1h").unwrap().lines, None);
    assert_eq!(parse("-p warning..debug").unwrap().filter.levels, Some(0b1111_0000));
}

#[test]
fn boots_are_chosen_by_number_or_id() {
    let id = Id(0xabc);
    let choice = |id, offset| Some(BootChoice { id, offset });
    let cases = [
        ("-b".to_owned(), choice(None, 0)),
        ("-b -1".to_owned(), choice(None, -1)),
        ("-b-1".to_owned(), choice(None, -1)),
        ("--boot=2".to_owned(), choice(None, 2)),
        (format!("-b {id}"), choice(Some(id), 0)),
        (format!("-b {id}-1"), choice(Some(id), -1)),
        ("-b -u a".to_owned(), choice(None, 0)),
        ("-k".to_owned(), choice(None, 0)),
        ("-b all".to_owned(), None),
        ("-b -n 5".to_owned(), choice(None, 0)),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(&line).unwrap().boot, expected, "{line}");
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let cases = [
        ("--badopt", "unrecognized option '--badopt'"),
        ("-o nope", "Unknown output format 'nope'."),
        ("-p nope", "Unknown log level nope"),
        ("-S nope", "Failed to parse timestamp: nope"),
        ("nope", "Failed to add match 'nope': Invalid argument"),
        ("-u", "option '-u' needs a value"),
        ("-fr", "Please specify either --reverse or --follow, not both."),
        ("--boot=x", "Failed to parse boot descriptor 'x'"),
        ("-S today -U yesterday", "--since= must be before --until=."),
    ];
    for (line, message) in cases {
        assert_eq!(parse(line).map(|_| ()), Err(message.to_owned()), "{line}");
    }
    assert!(parse("-g (").unwrap_err().starts_with("Bad pattern"));
}

proptest::proptest! {
    #[test]
    fn no_words_make_it_panic(words in proptest::collection::vec("-{0,2}[a-zA-Z=+0-9.-]{0,8}", 0..6)) {
        let _either = Options::parse(&words, 1_795_661_769_000_000);
    }
}
