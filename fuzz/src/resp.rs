//! The request parser: any split of the bytes gives the same commands.

use flintlock_server::resp::parse::{Arg, Limits, Parser, ProtocolError};

/// Commands received, and why it ended if not for want of bytes.
type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

const LIMITS: Limits = Limits { bulk_max: 512 * 1024 * 1024, authenticated: true };

/// Whatever the bytes and wherever they are cut: no panic, no argument outside the buffer, the same
/// commands and the same error; and a command that is sent again as an array is the same command.
///
/// # Panics
/// When one of these is not so.
pub fn resp_parse(data: &[u8]) {
    let whole = parse(data, |_| usize::MAX);
    let bytewise = parse(data, |_| 1);
    assert_eq!(whole, bytewise, "byte by byte");
    let seed = data.iter().fold(1_usize, |sum, byte| sum.wrapping_mul(31) ^ usize::from(*byte));
    let split = parse(data, |at| 1 + (seed.wrapping_mul(at + 7) >> 5) % 97);
    assert_eq!(whole, split, "in pieces");
    let mut again = Vec::new();
    for words in &whole.0 {
        again.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            again.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            again.extend_from_slice(word);
            again.extend_from_slice(b"\r\n");
        }
    }
    assert_eq!(parse(&again, |_| usize::MAX), (whole.0, None), "sent again");
}

/// Feeds the bytes in pieces of the sizes that `piece(position)` gives.
fn parse(data: &[u8], piece: impl Fn(usize) -> usize) -> Outcome {
    let (mut parser, mut buffer) = (Parser::default(), Vec::new());
    let (mut args, mut commands): (Vec<Arg>, Vec<Vec<Vec<u8>>>) = (Vec::new(), Vec::new());
    let mut fed = 0;
    loop {
        match parser.next(&mut buffer, LIMITS, &mut args) {
            Err(error) => return (commands, Some(error)),
            Ok(true) => {
                assert!(!args.is_empty(), "a command has a name");
                commands.push(args.drain(..).map(|arg| arg.of(&buffer).to_vec()).collect());
                assert!(parser.position() <= buffer.len());
                // Between two commands the buffer may be cut; do it, as a server does.
                if parser.is_between_commands() {
                    let used = parser.position();
                    buffer.drain(..used);
                    parser.shift(used);
                }
            }
            Ok(false) if fed == data.len() => return (commands, None),
            Ok(false) => {
                let end = fed.saturating_add(piece(fed)).min(data.len());
                buffer.extend_from_slice(&data[fed..end]);
                fed = end;
            }
        }
    }
}
