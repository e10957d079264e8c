//! Files of operators: read whole, up to a bound.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::Error;

/// The content of a file of at most so many bytes.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut content));
    match read.map_err(Error::Unreadable)? as u64 {
        length if length > max_bytes => Err(Error::TooLarge(max_bytes)),
        _ => Ok(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(matches!(read(&path, 3), Err(Error::TooLarge(3))));
        assert!(matches!(read(&dir.path().join("none"), 3), Err(Error::Unreadable(_))));
    }
}
