use proptest::prelude::*;

use super::*;

const OPEN: Limits = Limits { bulk_max: 512 * 1024 * 1024, authenticated: true };

/// Feeds `input` in pieces of the given sizes (the rest at once); returns what came out.
fn feed(
    input: &[u8],
    sizes: &[usize],
    limits: Limits,
) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let (mut buf, mut parser, mut args) = (Vec::new(), Parser::default(), Vec::new());
    let mut commands = Vec::new();
    let mut rest = input;
    let mut sizes = sizes.iter().copied();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        buf.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        loop {
            match parser.next(&mut buf, limits, &mut args) {
                Ok(true) => {
                    commands.push(args.iter().map(|a| a.of(&buf).to_vec()).collect());
                    args.clear();
                    let done = parser.position();
                    buf.drain(..done);
                    parser.shift(done);
                }
                Ok(false) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

fn words(commands: &[&[&str]]) -> Vec<Vec<Vec<u8>>> {
    commands.iter().map(|c| c.iter().map(|w| w.as_bytes().to_vec()).collect()).collect()
}

#[test]
fn commands_of_both_forms() {
    let cases: &[(&[u8], &[&[&str]])] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[&["PING"]]),
        (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\nPING\r\n", &[&["GET", ""], &["PING"]]),
        (b"*0\r\n*-1\r\n*-10\r\n\r\n\nPING\n", &[&["PING"]]),
        (b"  SET  k\t\"a b\"  \r\n", &[&["SET", "k", "a b"]]),
        (b"SET k \"\\x41\\n\\\"\\q\" 'it\\'s \\x41'\r\n", &[&["SET", "k", "A\n\"q", "it's \\x41"]]),
        (b"SET k a\"b c\" ''\r\n", &[&["SET", "k", "ab c", ""]]),
        (b"GET k\0 never\r\nPING\r\n", &[]),
        (b"*1\r\n$5\r\n\r\n\r\n\r\r\n", &[&["\r\n\r\n\r"]]),
        // The two bytes after an argument are not looked at, as in Redis.
        (b"*1\r\n$4\r\nPINGxxPING\r\n", &[&["PING"], &["PING"]]),
    ];
    for (input, expected) in cases {
        let (commands, error) = feed(input, &[], OPEN);
        assert_eq!((commands, error), (words(expected), None), "{}", input.escape_ascii());
    }
}

#[test]
fn malformed_input_names_its_fault() {
    let long = vec![b'x'; INLINE_MAX + 1];
    let star = [b"*".as_slice(), &long].concat();
    let dollar = [b"*1\r\n$".as_slice(), &long].concat();
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\r\n\r\n", "expected '$', got '\r'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$1x\r\n", "invalid bulk length"),
        (b"*1\r\n$01\r\n", "invalid bulk length"),
        (b"SET k \"x\r\n", "unbalanced quotes in request"),
        (b"SET k \"x\"y\r\n", "unbalanced quotes in request"),
        (&long, "too big inline request"),
        (&star, "too big mbulk count string"),
        (&dollar, "too big bulk count string"),
    ];
    for (input, text) in cases {
        for sizes in [&[][..], &vec![1; input.len()][..]] {
            let (_, error) = feed(input, sizes, OPEN);
            let shown = error.map(|e| e.to_string());
            let start = &input[..input.len().min(20)];
            assert_eq!(shown, Some(format!("Protocol error: {text}")), "{}", start.escape_ascii());
        }
    }
}

#[test]
fn before_auth_the_limits_are_small() {
    let limits = Limits { authenticated: false, ..OPEN };
    let errors = [
        (&b"*11\r\n"[..], ProtocolError::ArrayLengthUnauthenticated),
        (b"*1\r\n$16385\r\n", ProtocolError::BulkLengthUnauthenticated),
    ];
    for (input, error) in errors {
        assert_eq!(feed(input, &[], limits).1, Some(error));
        assert_eq!(feed(input, &[], OPEN).1, None);
    }
    assert_eq!(feed(b"*10\r\n$16384\r\n", &[], limits).1, None);
}

#[test]
fn a_named_size_reserves_nothing_and_is_told_to_the_caller() {
    let (mut buf, mut parser, mut args) =
        (b"*1000000\r\n$536870912\r\n".to_vec(), Parser::default(), Vec::new());
    assert_eq!(parser.next(&mut buf, OPEN, &mut args), Ok(false));
    assert_eq!(args.capacity(), 0);
    assert_eq!(parser.wanted(&buf), 536_870_914);
    assert!(!parser.is_between_commands());
}

proptest! {
    #[test]
    fn any_split_gives_the_same_commands(
        commands in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            1..8,
        ),
        sizes in prop::collection::vec(1usize..30, 0..200),
    ) {
        let mut input = Vec::new();
        for command in &commands {
            input.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for word in command {
                input.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                input.extend_from_slice(word);
                input.extend_from_slice(b"\r\n");
            }
        }
        let whole = feed(&input, &[], OPEN);
        prop_assert_eq!(&whole, &(commands, None));
        prop_assert_eq!(feed(&input, &sizes, OPEN), whole);
    }

    #[test]
    fn garbage_gives_the_same_outcome_however_it_is_split(
        input in prop::collection::vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'0'), Just(b'"'),
            Just(b'\''), Just(b'\\'), Just(b' '), any::<u8>()], 0..300),
        sizes in prop::collection::vec(1usize..20, 0..100),
    ) {
        prop_assert_eq!(feed(&input, &sizes, OPEN), feed(&input, &[], OPEN));
    }
}
