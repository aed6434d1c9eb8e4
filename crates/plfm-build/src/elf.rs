//! What an ELF file must be to be booted: guest init a static program, the kernel one with a PVH entry.
//!
//! Flags given to a compiler prove nothing (a wrong one leaves a dynamic program without a word), so the result is
//! looked at.

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader};

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note that holds the address of the PVH entry.
const PVH_NOTE_TYPE: u32 = 18;
const PVH_NOTE_NAME: &[u8] = b"Xen";

/// Why an ELF file is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Not an ELF file, or a broken one.
    #[error("{what} is not a well-formed 64-bit ELF file: {reason}")]
    Malformed {
        /// Which file.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// For another machine.
    #[error("{what} is not for x86_64 (ELF machine {machine})")]
    WrongMachine {
        /// Which file.
        what: &'static str,
        /// The number of the machine.
        machine: u16,
    },
    /// An object file or a library.
    #[error("{what} is not an executable (ELF type {kind})")]
    NotExecutable {
        /// Which file.
        what: &'static str,
        /// The ELF type.
        kind: u16,
    },
    /// It needs a dynamic loader, which an initramfs does not have.
    #[error("{what} is dynamically linked: it needs the loader {loader}")]
    NeedsLoader {
        /// Which file.
        what: &'static str,
        /// The loader.
        loader: String,
    },
    /// It needs a library, which an initramfs does not have.
    #[error("{what} is dynamically linked: it needs the library {library}")]
    NeedsLibrary {
        /// Which file.
        what: &'static str,
        /// The first library it needs.
        library: String,
    },
    /// A kernel that cannot be entered.
    #[error("{what} has no PVH entry (note {PVH_NOTE_TYPE} of Xen): is CONFIG_PVH off?")]
    NoPvhEntry {
        /// Which file.
        what: &'static str,
    },
}

impl ElfError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "elf_malformed",
            Self::WrongMachine { .. } => "elf_wrong_machine",
            Self::NotExecutable { .. } => "elf_not_executable",
            Self::NeedsLoader { .. } | Self::NeedsLibrary { .. } => "elf_not_static",
            Self::NoPvhEntry { .. } => "elf_no_pvh_entry",
        }
    }
}

type Header = FileHeader64<Endianness>;

struct Elf<'data> {
    what: &'static str,
    endian: Endianness,
    data: &'data [u8],
    segments: &'data [<Header as FileHeader>::ProgramHeader],
}

impl<'data> Elf<'data> {
    /// Reads the headers of an x86_64 executable.
    fn parse(what: &'static str, data: &'data [u8]) -> Result<Self, ElfError> {
        let malformed = |error: object::Error| ElfError::Malformed {
            what,
            reason: error.to_string(),
        };
        let header = Header::parse(data).map_err(malformed)?;
        let endian = header.endian().map_err(malformed)?;
        let machine = header.e_machine(endian);
        if machine != elf::EM_X86_64 {
            return Err(ElfError::WrongMachine {
                what,
                machine: machine.0,
            });
        }
        let kind = header.e_type(endian);
        if (kind != elf::ET_EXEC && kind != elf::ET_DYN) || header.e_entry(endian) == 0 {
            return Err(ElfError::NotExecutable { what, kind: kind.0 });
        }
        let segments = header.program_headers(endian, data).map_err(malformed)?;
        Ok(Self {
            what,
            endian,
            data,
            segments,
        })
    }

    fn malformed(&self, error: object::Error) -> ElfError {
        ElfError::Malformed {
            what: self.what,
            reason: error.to_string(),
        }
    }

    fn loader(&self) -> Result<Option<String>, ElfError> {
        for segment in self.segments {
            if let Some(loader) = segment
                .interpreter(self.endian, self.data)
                .map_err(|error| self.malformed(error))?
            {
                return Ok(Some(String::from_utf8_lossy(loader).into_owned()));
            }
        }
        Ok(None)
    }

    /// The first `DT_NEEDED` of the dynamic segment. Sections are not looked at: a program can be without.
    fn needed_library(&self) -> Result<Option<String>, ElfError> {
        for segment in self.segments {
            let Some(dynamic) = segment
                .dynamic(self.endian, self.data)
                .map_err(|error| self.malformed(error))?
            else {
                continue;
            };
            let value = |tag| {
                let entry = dynamic.iter().find(|entry| entry.d_tag(self.endian) == tag);
                entry.map(|entry| entry.d_val(self.endian))
            };
            if let Some(offset) = value(elf::DT_NEEDED) {
                let name = value(elf::DT_STRTAB).and_then(|table| self.text_at(table.checked_add(offset)?));
                return Ok(Some(name.unwrap_or_else(|| "of an unreadable name".to_owned())));
            }
        }
        Ok(None)
    }

    /// The text at a virtual address, up to its NUL.
    fn text_at(&self, address: u64) -> Option<String> {
        let loaded = self
            .segments
            .iter()
            .filter(|segment| segment.p_type(self.endian) == elf::PT_LOAD);
        for segment in loaded {
            let Some(offset) = address.checked_sub(segment.p_vaddr(self.endian)) else {
                continue;
            };
            let content = segment.data(self.endian, self.data).ok()?;
            if let Some(rest) = content.get(usize::try_from(offset).ok()?..) {
                let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                return Some(String::from_utf8_lossy(text).into_owned());
            }
        }
        None
    }

    fn has_pvh_entry(&self) -> Result<bool, ElfError> {
        for segment in self.segments {
            let notes = segment
                .notes(self.endian, self.data)
                .map_err(|error| self.malformed(error))?;
            let Some(mut notes) = notes else { continue };
            while let Some(note) = notes.next().map_err(|error| self.malformed(error))? {
                let is_pvh = note.name() == PVH_NOTE_NAME && note.n_type(self.endian).0 == PVH_NOTE_TYPE;
                if is_pvh && note.desc().iter().any(|byte| *byte != 0) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Checks that `data` is a program for x86_64 that runs without any other file. `what` names it in errors.
///
/// # Errors
/// [`ElfError`], with the name of the loader or the library that it needs.
pub fn check_static_program(what: &'static str, data: &[u8]) -> Result<(), ElfError> {
    let elf = Elf::parse(what, data)?;
    if let Some(library) = elf.needed_library()? {
        return Err(ElfError::NeedsLibrary { what, library });
    }
    if let Some(loader) = elf.loader()? {
        return Err(ElfError::NeedsLoader { what, loader });
    }
    Ok(())
}

/// Checks that `data` is a kernel for x86_64 that a VMM can enter through PVH.
///
/// # Errors
/// [`ElfError`].
pub fn check_kernel(data: &[u8]) -> Result<(), ElfError> {
    let what = "the kernel";
    if Elf::parse(what, data)?.has_pvh_entry()? {
        Ok(())
    } else {
        Err(ElfError::NoPvhEntry { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Compiles a program of one line; `None`, said aloud, where there is no compiler.
    fn compiled(flags: &[&str]) -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let (source, program) = (dir.path().join("main.c"), dir.path().join("main"));
        std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let status = std::process::Command::new("gcc")
            .args(flags)
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no gcc that links {flags:?}");
            return None;
        }
        Some(std::fs::read(program).unwrap())
    }

    #[test]
    fn a_dynamic_program_is_refused_with_its_library() {
        let Some(program) = compiled(&[]) else { return };
        let error = check_static_program("guest init", &program).unwrap_err();
        assert_eq!(
            error.to_string(),
            "guest init is dynamically linked: it needs the library libc.so.6"
        );
    }

    #[test]
    fn static_programs_are_taken() {
        for flags in [&["-static"][..], &["-static-pie"]] {
            let Some(program) = compiled(flags) else { continue };
            assert_eq!(check_static_program("guest init", &program), Ok(()), "{flags:?}");
            assert_eq!(
                check_kernel(&program),
                Err(ElfError::NoPvhEntry { what: "the kernel" })
            );
        }
    }

    #[test]
    fn an_object_file_is_no_program() {
        let Some(object) = compiled(&["-c"]) else { return };
        assert!(matches!(
            check_static_program("x", &object),
            Err(ElfError::NotExecutable { kind: 1, .. })
        ));
    }

    #[test]
    fn another_machine_is_refused() {
        let Some(mut program) = compiled(&["-static"]) else {
            return;
        };
        program[18] = 183;
        let expected = ElfError::WrongMachine {
            what: "x",
            machine: 183,
        };
        assert_eq!(check_static_program("x", &program), Err(expected));
    }

    #[test]
    fn a_truncated_program_is_malformed() {
        let Some(program) = compiled(&[]) else { return };
        for length in [0, 4, 63, 64, 200] {
            let error = check_static_program("x", &program[..length]).unwrap_err();
            assert!(matches!(error, ElfError::Malformed { .. }), "{length}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_header_give_an_answer(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
            bytes.resize(16, 0);
            bytes.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
            bytes.extend(tail);
            let _ = (check_static_program("x", &bytes), check_kernel(&bytes));
        }
    }
}
