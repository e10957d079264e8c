use proptest::prelude::*;

use super::*;

/// The data, the trailers' names, and the bytes left behind.
type Decoded = (Vec<u8>, Vec<String>, Vec<u8>);

/// Decodes `input` fed in pieces of `step` bytes.
fn decode(framing: Framing, input: &[u8], step: usize) -> Result<Decoded, Error> {
    let (mut decoder, mut trailers, mut data) = (Decoder::new(framing), Head::default(), Vec::new());
    let mut buffer = Buffer::default();
    let mut rest = input;
    loop {
        match decoder.decode(&mut buffer, &mut trailers)? {
            Found::Data(n) => {
                data.extend_from_slice(&buffer.filled()[..n]);
                buffer.consume(n);
            }
            Found::End => break,
            Found::More if rest.is_empty() => {
                decoder.finish()?;
                break;
            }
            Found::More => {
                let (now, later) = rest.split_at(step.min(rest.len()));
                let unread = [buffer.filled(), now].concat();
                buffer = Buffer::default();
                buffer.prefill(&unread);
                rest = later;
            }
        }
    }
    let names = trailers.fields().map(|field| String::from_utf8_lossy(field.name).into_owned()).collect();
    Ok((data, names, [buffer.filled(), rest].concat()))
}

fn check(framing: Framing, input: &str, expected: Result<(&str, &[&str], &str), Error>) {
    for step in [1, 2, 3, 7, 4096] {
        let seen = decode(framing, input.as_bytes(), step);
        let expected = expected.map(|(data, names, left)| {
            (data.as_bytes().to_vec(), names.iter().map(|name| (*name).to_owned()).collect(), left.as_bytes().to_vec())
        });
        assert_eq!(seen, expected, "{input:?} in steps of {step}");
    }
}

#[test]
fn lengths_take_exactly_their_bytes() {
    check(Framing::Length(3), "abcGET", Ok(("abc", &[], "GET")));
    check(Framing::Length(3), "ab", Err(Error::Truncated));
    check(Framing::Length(0), "GET", Ok(("", &[], "GET")));
    check(Framing::None, "GET", Ok(("", &[], "GET")));
    check(Framing::Eof, "abc", Ok(("abc", &[], "")));
}

// H4
#[test]
fn chunks_are_strict() {
    let chunked = |input: &str, expected| check(Framing::Chunked, input, expected);
    chunked("3\r\nabc\r\n0\r\n\r\nGET", Ok(("abc", &[], "GET")));
    chunked("003\r\nabc\r\n000\r\n\r\n", Ok(("abc", &[], "")));
    chunked("A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", Ok(("0123456789x", &[], "")));
    chunked("3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", Ok(("abc", &[], "")));
    chunked("0\r\nX-Sum: 1\r\nHost: b\r\n\r\nGET", Ok(("", &["X-Sum"], "GET")));
    for bad in [
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc",
        "-1\r\n",
        " 3\r\n",
        "3 \r\nabc",
        "\r\n",
        "g\r\n",
        "3_0\r\n",
        "1000000000000000\r\n",
        "3\nabc",
    ] {
        chunked(bad, Err(Error::Size));
    }
    chunked("3\r\nabcd\r\n", Err(Error::DataEnd));
    chunked("3\r\nabc\n0\r\n\r\n", Err(Error::DataEnd));
    chunked("3;a\nabc", Err(Error::Extension));
    chunked("3;a\rb\r\nabc", Err(Error::Extension));
    chunked("3;a\0\r\nabc", Err(Error::Extension));
    chunked("0\r\nA: b\nC: d\r\n\r\n", Err(Error::Trailer));
    chunked("0\r\nA : b\r\n\r\n", Err(Error::Trailer));
    chunked("3\r\nab", Err(Error::Truncated));
    chunked("3\r\nabc\r\n", Err(Error::Truncated));
    chunked("3\r\nabc\r\n0\r\n", Err(Error::Truncated));
}

// D3: neither extensions nor trailers grow without bound.
#[test]
fn extensions_and_trailers_are_bounded() {
    let extension =
        |n: usize| decode(Framing::Chunked, format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(n)).as_bytes(), 4096);
    assert!(extension(EXTENSION_BYTES - 1).is_ok());
    assert_eq!(extension(EXTENSION_BYTES), Err(Error::Extension));
    let many = "1;aaaaaaaa\r\nx\r\n".repeat(600) + "0\r\n\r\n";
    assert_eq!(decode(Framing::Chunked, many.as_bytes(), 4096), Err(Error::Extension));
    let trailer = |n: usize| decode(Framing::Chunked, format!("0\r\nA: {}\r\n\r\n", "a".repeat(n)).as_bytes(), 4096);
    assert!(trailer(TRAILER_BYTES - 10).is_ok());
    assert_eq!(trailer(TRAILER_BYTES), Err(Error::Trailer));
}

proptest! {
    #[test]
    fn written_chunks_are_read_back(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8), step in 1usize..50) {
        let mut out = Vec::new();
        for piece in &pieces {
            super::super::write::chunk(&mut out, piece);
        }
        super::super::write::last_chunk(&mut out, &Head::default(), |_| true);
        out.extend_from_slice(b"next");
        let (data, _, left) = decode(Framing::Chunked, &out, step).expect("valid");
        prop_assert_eq!(data, pieces.concat());
        prop_assert_eq!(left, b"next");
    }

    // D6
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..20) {
        let _ = decode(Framing::Chunked, &bytes, step);
    }
}
