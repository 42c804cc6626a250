use anyhow::Result;
use catalog_upload::files::FileError;

/// A file and what must become of it.
pub struct Case {
    /// For the person who reads why a test failed.
    pub name: &'static str,
    /// The name it is uploaded under.
    pub filename: String,
    pub bytes: Vec<u8>,
    pub expected: Expected,
}

/// What must become of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Completed {
        /// Products.
        created: u64,
        /// Rows by number, and the code of each.
        rejected: Vec<(u64, String)>,
    },
    /// The whole file fails, with this message.
    Failed(String),
    /// It isn't even taken: status and code.
    Refused(u16, &'static str),
}

/// All rows become products.
pub fn created(created: u64) -> Expected {
    rejected(created, &[])
}

/// Some rows become products, some are rejected.
pub fn rejected(created: u64, rejected: &[(u64, &str)]) -> Expected {
    let rejected = rejected.iter().map(|(row, code)| (*row, (*code).to_owned())).collect();
    Expected::Completed { created, rejected }
}

/// The file fails as a whole.
pub fn failed(error: &FileError) -> Expected {
    Expected::Failed(error.to_string())
}

pub fn hostile(detail: &str) -> Expected {
    failed(&FileError::Hostile { detail: detail.to_owned() })
}

pub fn corrupt(detail: &str) -> Expected {
    failed(&FileError::Corrupt { detail: detail.to_owned() })
}

/// Ids that no other file has.
pub struct Ids {
    prefix: String,
    base: u32,
}

impl Ids {
    /// The id, which is also the code, of the file's n-th product.
    pub fn id(&self, n: u32) -> String {
        format!("{}-{n}", self.prefix)
    }

    /// One that Excel would keep as a number.
    pub fn number(&self, n: u32) -> f64 {
        f64::from(self.base + n)
    }
}

/// Gathers the cases.
pub struct Cases {
    tag: String,
    cases: Vec<Case>,
}

impl Cases {
    pub fn new(tag: &str) -> Self {
        Self { tag: tag.to_owned(), cases: Vec::new() }
    }

    pub fn done(self) -> Vec<Case> {
        self.cases
    }

    /// A workbook.
    pub fn xlsx(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&Ids) -> Result<Vec<u8>>,
        expected: Expected,
    ) -> Result<()> {
        self.named(name, &format!("{name}.xlsx"), make, expected)
    }

    /// A text file.
    pub fn csv(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&Ids) -> Vec<u8>,
        expected: Expected,
    ) -> Result<()> {
        self.named(name, &format!("{name}.csv"), |ids| Ok(make(ids)), expected)
    }

    /// A file under a name of its own.
    pub fn named(
        &mut self,
        name: &'static str,
        filename: &str,
        make: impl FnOnce(&Ids) -> Result<Vec<u8>>,
        expected: Expected,
    ) -> Result<()> {
        let number = self.cases.len();
        let tag: u32 = self.tag.bytes().map(u32::from).sum();
        let ids =
            Ids { prefix: format!("{}{number}", self.tag), base: tag * 1_000_000 + number as u32 * 1_000 };
        self.cases.push(Case { name, filename: filename.to_owned(), bytes: make(&ids)?, expected });
        Ok(())
    }
}
