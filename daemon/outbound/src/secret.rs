//! Secrets that a policy names: files below the folders that the daemon was given for them, and no others. A policy may come
//! inside a message, and what it names is sent to an address that it names too: so no file of the host may be had that way.
//!
//! A name without a leading `/` is looked for in each folder in turn. Links are followed, as far as they stay below the
//! folder (a mounted Kubernetes Secret is made of such). Files are read at each use: a rotated secret counts at once.

use std::io;
use std::path::{Component, Path, PathBuf};

use secrecy::SecretString;

/// A secret is a line, not a document.
const MOST_BYTES: u64 = 8 * 1024;

/// Why a secret cannot be had. Never shows what stands in a file, nor whether one outside the folders exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Only a change of the policy or of the daemon's options helps.
    #[error(
        "{file} is not below a folder of secrets ({folders}): put it there, or start the daemon with `sluice run --secrets DIR`"
    )]
    Outside { file: String, folders: String },
    /// Somebody has to mend the file; it is read anew at the next use.
    #[error("{file} cannot be used: {why}")]
    Unusable { file: String, why: String },
}

/// Where secrets may stand; nothing: nobody has said so, and none is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folders(pub(crate) Option<Vec<PathBuf>>);

impl Folders {
    /// As far as that goes without looking at files.
    pub(crate) fn check(&self, file: &str) -> Result<(), SecretError> {
        if self.0.is_none() { Ok(()) } else { self.places(file).map(drop) }
    }

    /// The text without surrounding space.
    pub(crate) async fn read(&self, file: &str) -> Result<SecretString, SecretError> {
        let unusable = |why: String| SecretError::Unusable { file: file.to_owned(), why };
        let mut missing = unusable("there is no such file".to_owned());
        for (folder, path) in self.places(file)? {
            match below(folder, &path).await {
                Ok(Some(text)) if text.trim().is_empty() => return Err(unusable("it is empty".to_owned())),
                Ok(Some(text)) => return Ok(SecretString::from(text.trim().to_owned())),
                Ok(None) => return Err(self.outside(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => missing = unusable(error.to_string()),
            }
        }
        Err(missing)
    }

    /// Where the file may be, with the folder that it has to stay below.
    fn places(&self, file: &str) -> Result<Vec<(&Path, PathBuf)>, SecretError> {
        let path = Path::new(file);
        let folders = self.0.iter().flatten().map(PathBuf::as_path);
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        // Joining an absolute path gives that path.
        let places: Vec<_> = folders
            .filter(|folder| plain && (path.is_relative() || path.starts_with(folder)))
            .map(|folder| (folder, folder.join(path)))
            .collect();
        if places.is_empty() { Err(self.outside(file)) } else { Ok(places) }
    }

    fn outside(&self, file: &str) -> SecretError {
        let folders = self.0.iter().flatten().map(|folder| folder.display().to_string()).collect::<Vec<_>>();
        let folders = if folders.is_empty() { "this daemon has none".to_owned() } else { folders.join(", ") };
        SecretError::Outside { file: file.to_owned(), folders }
    }
}

/// `None`: a link leads out of the folder.
async fn below(folder: &Path, path: &Path) -> io::Result<Option<String>> {
    let folder = tokio::fs::canonicalize(folder).await?;
    let path = tokio::fs::canonicalize(path).await?;
    if !path.starts_with(&folder) {
        return Ok(None);
    }
    let about = tokio::fs::metadata(&path).await?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if about.len() > MOST_BYTES {
        return Err(io::Error::other("it is larger than a secret"));
    }
    tokio::fs::read_to_string(&path).await.map(Some)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::*;

    struct House {
        root: tempfile::TempDir,
        folders: Folders,
    }

    impl House {
        /// A folder of secrets as Kubernetes mounts it, another one, and what a policy may not have.
        fn new() -> House {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            for folder in ["secrets/..v1", "more", "secrets/folder"] {
                std::fs::create_dir_all(at(folder)).unwrap();
            }
            for (file, text) in [
                ("secrets/..v1/token", "s3cret\n"),
                ("more/other", "0ther"),
                ("shadow", "root:x"),
                ("secrets/empty", " \n"),
            ] {
                std::fs::write(at(file), text).unwrap();
            }
            std::fs::write(at("secrets/large"), vec![b'x'; 10_000]).unwrap();
            symlink("..v1", at("secrets/..data")).unwrap();
            symlink("..data/token", at("secrets/token")).unwrap();
            symlink("../shadow", at("secrets/out")).unwrap();
            symlink("..", at("secrets/up")).unwrap();
            let folders = Folders(Some(vec![at("secrets"), at("more"), at("absent")]));
            House { root, folders }
        }

        async fn read(&self, file: &str) -> Result<String, SecretError> {
            let file = file.replace("ROOT", &self.root.path().display().to_string());
            self.folders.read(&file).await.map(|secret| secret.expose_secret().to_owned())
        }
    }

    #[tokio::test]
    async fn a_secret_is_found_by_its_name_and_by_its_path_through_links_that_stay_below() {
        let house = House::new();
        for (file, text) in [
            ("token", "s3cret"),
            ("other", "0ther"),
            ("ROOT/secrets/token", "s3cret"),
            ("ROOT/more/other", "0ther"),
        ] {
            assert_eq!(house.read(file).await.as_deref(), Ok(text), "{file}");
        }
    }

    #[tokio::test]
    async fn nothing_else_on_the_host_can_be_had() {
        let house = House::new();
        for file in [
            "ROOT/shadow",
            "ROOT/secrets/../shadow",
            "../shadow",
            "ROOT/secrets/out",
            "out",
            "up/shadow",
            "/etc/passwd",
            "/proc/self/environ",
            "ROOT/secretsx",
        ] {
            let refused = house.read(file).await;
            assert!(matches!(refused, Err(SecretError::Outside { .. })), "{file}: {refused:?}");
            assert!(refused.unwrap_err().to_string().contains("--secrets DIR"));
        }
        let nowhere = Folders(None).read("token").await.unwrap_err().to_string();
        assert!(nowhere.contains("has none"), "{nowhere}");
    }

    #[tokio::test]
    async fn what_is_no_secret_is_told_apart() {
        let house = House::new();
        for (file, why) in
            [("absent", "no such file"), ("empty", "empty"), ("large", "larger"), ("folder", "no file")]
        {
            let told = house.read(file).await.unwrap_err().to_string();
            assert!(told.contains(why), "{file}: {told}");
        }
    }
}
