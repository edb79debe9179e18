// SPDX-License-Identifier: GPL-2.0

//! The references to a function in a kernel's image: calls, jumps, and places that hold its address.
//!
//! Pointers are those of eight bytes in data, and constants in code. The image's tables of relative addresses
//! (unwinding, alternatives, exception fixups) have no pointers by which anybody calls a function; an exported
//! function is told by its symbol. Code and data that are gone after the boot do not count.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};
use object::{Object, ObjectSection, SectionFlags, elf};

/// The length of the instruction that marks the target of an indirect branch.
const ENDBR: u64 = 4;

/// A kernel's symbols, and what refers to the functions that were asked for.
#[derive(Debug, Default)]
pub struct Image {
    symbols: Symbols,
    /// For each function, by the symbol in which they are.
    references: BTreeMap<String, References>,
}

/// The symbols with references to one function, and how many each has.
pub type References = BTreeMap<String, Sites>;

/// References to a function within one symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sites {
    /// Direct calls and jumps.
    pub calls: usize,
    /// Places that hold its address.
    pub pointers: usize,
}

impl Image {
    /// Looks for references to these functions. The symbols are as nm(1) prints them.
    ///
    /// # Errors
    ///
    /// If the file or the symbols are not those of a kernel.
    pub fn parse(file: &[u8], symbols: &str, functions: &[&str]) -> Result<Self, String> {
        let symbols = Symbols::parse(symbols)?;
        let mut targets = HashMap::new();
        for &function in functions {
            if let [address] = symbols.addresses(function)[..] {
                // With IBT, the linker or the kernel may let a direct call go past the mark.
                targets.insert(address, function);
                targets.insert(address + ENDBR, function);
            }
        }
        let file = object::File::parse(file).map_err(|why| why.to_string())?;
        let mut image = Self {
            symbols,
            ..Self::default()
        };
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags } = section.flags() else {
                continue;
            };
            let name = section.name().map_err(|why| why.to_string())?;
            let lasts = sh_flags & u64::from(elf::SHF_ALLOC) != 0 && !name.starts_with(".init");
            let Some(data) = section.data().ok().filter(|_| lasts) else {
                continue;
            };
            let is_code =
                sh_flags & u64::from(elf::SHF_EXECINSTR) != 0 && !name.starts_with(".data");
            if is_code {
                image.code(section.address(), data, &targets);
            } else {
                image.data(section.address(), data, &targets);
            }
        }
        for &function in functions {
            if !image
                .symbols
                .addresses(&format!("__ksymtab_{function}"))
                .is_empty()
            {
                image.sites(function, "EXPORT_SYMBOL").pointers += 1;
            }
        }
        Ok(image)
    }

    #[cfg(test)]
    pub fn with(symbols: &str, calls: &[(&str, &str)]) -> Self {
        let mut image = Self {
            symbols: Symbols::parse(symbols).unwrap(),
            ..Self::default()
        };
        for (caller, function) in calls {
            image.sites(function, caller).calls += 1;
        }
        image
    }

    /// The symbols.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The references to the functions.
    pub fn references(&self, function: &str) -> References {
        self.references.get(function).cloned().unwrap_or_default()
    }

    /// Decodes one function after the other, as each begins with an instruction.
    fn code(&mut self, start: u64, data: &[u8], targets: &HashMap<u64, &str>) {
        let starts: Vec<_> = self
            .symbols
            .within(start, start + data.len() as u64)
            .collect();
        let ends = starts
            .iter()
            .skip(1)
            .copied()
            .chain([start + data.len() as u64]);
        let mut insn = Instruction::default();
        for (&from, to) in starts.iter().zip(ends) {
            let bytes = &data[(from - start) as usize..(to - start) as usize];
            let mut decoder = Decoder::with_ip(64, bytes, from, DecoderOptions::NONE);
            while decoder.can_decode() {
                decoder.decode_out(&mut insn);
                for (address, is_call) in addresses(&insn) {
                    if let Some(&function) = targets.get(&address) {
                        self.note(function, from, is_call);
                    }
                }
            }
        }
    }

    fn data(&mut self, start: u64, data: &[u8], targets: &HashMap<u64, &str>) {
        for (index, bytes) in data.chunks_exact(8).enumerate() {
            let value = bytes
                .iter()
                .rev()
                .fold(0, |value, byte| (value << 8) | u64::from(*byte));
            if let Some(&function) = targets.get(&value) {
                self.note(function, start + 8 * index as u64, false);
            }
        }
    }

    fn note(&mut self, function: &str, address: u64, is_call: bool) {
        let symbol = self.symbols.at(address).to_owned();
        let sites = self.sites(function, source_name(&symbol));
        if is_call {
            sites.calls += 1;
        } else {
            sites.pointers += 1;
        }
    }

    fn sites(&mut self, function: &str, symbol: &str) -> &mut Sites {
        let references = self.references.entry(function.into()).or_default();
        references.entry(symbol.into()).or_default()
    }
}

/// The name in the source of what a compiler split or cloned: `f.cold`, `f.constprop.0`.
pub fn source_name(symbol: &str) -> &str {
    symbol.split_once('.').map_or(symbol, |(name, _)| name)
}

/// The addresses in an instruction, and whether it goes there.
fn addresses(insn: &Instruction) -> impl Iterator<Item = (u64, bool)> {
    (0..insn.op_count()).filter_map(move |operand| match insn.op_kind(operand) {
        OpKind::NearBranch64 => Some((insn.near_branch64(), true)),
        OpKind::Immediate64 | OpKind::Immediate32to64 => Some((insn.immediate(operand), false)),
        OpKind::Memory => Some((insn.memory_displacement64(), false)),
        _ => None,
    })
}

/// The names of an image, by address.
#[derive(Debug, Default)]
pub struct Symbols {
    by_address: Vec<(u64, String)>,
}

impl Symbols {
    /// `ffffffff81000000 T _text`; with a module's name behind it, it is not the image's.
    fn parse(text: &str) -> Result<Self, String> {
        let mut by_address = Vec::new();
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [address, _, name] => {
                    let address = u64::from_str_radix(address, 16);
                    let address = address.map_err(|_| format!("not a symbol: {line}"))?;
                    by_address.push((address, name.to_owned()));
                }
                [_, _, _, _module] => {}
                _ => return Err(format!("not a symbol: {line}")),
            }
        }
        by_address.sort_unstable();
        // /proc/kallsyms shows zeros to users who may not see addresses.
        if by_address.last().is_none_or(|(address, _)| *address == 0) {
            return Err("the symbols have no addresses".into());
        }
        Ok(Self { by_address })
    }

    /// Where the symbols of that name are.
    pub fn addresses(&self, name: &str) -> Vec<u64> {
        self.by_address
            .iter()
            .filter(|(_, it)| it == name)
            .map(|(address, _)| *address)
            .collect()
    }

    /// Symbols of that name with something appended by a compiler.
    pub fn clones(&self, name: &str) -> Vec<&str> {
        let names = self.by_address.iter().map(|(_, it)| it.as_str());
        names
            .filter(|it| *it != name && source_name(it) == name && !it.ends_with(".cold"))
            .collect()
    }

    /// The names of the same address.
    pub fn namesakes(&self, address: u64) -> impl Iterator<Item = &str> {
        let all = self.by_address.iter().filter(move |(it, _)| *it == address);
        all.map(|(_, name)| name.as_str())
    }

    /// The symbol that has an address.
    fn at(&self, address: u64) -> &str {
        let behind = self
            .by_address
            .partition_point(|(start, _)| *start <= address);
        behind
            .checked_sub(1)
            .map_or("?", |index| &self.by_address[index].1)
    }

    /// The addresses of symbols in this range, and its start, each once.
    fn within(&self, start: u64, end: u64) -> impl Iterator<Item = u64> {
        let first = self
            .by_address
            .partition_point(|(address, _)| *address <= start);
        let mut last = start;
        let later = self.by_address[first..].iter().map(|(address, _)| *address);
        let new = later
            .take_while(move |address| *address < end)
            .filter(move |address| std::mem::replace(&mut last, *address) != *address);
        [start].into_iter().chain(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "ffffffff81000000 T caller\nffffffff81000010 t other.cold\n\
                           ffffffff81000020 T f\nffffffff82000000 d table\nffffffffc0000000 t f\t[module]\n";

    fn image() -> Image {
        Image {
            symbols: Symbols::parse(SYMBOLS).unwrap(),
            ..Image::default()
        }
    }

    fn found(image: &Image, symbol: &str) -> (usize, usize) {
        let sites = image
            .references("f")
            .get(symbol)
            .copied()
            .unwrap_or_default();
        (sites.calls, sites.pointers)
    }

    const TARGET: u64 = 0xffff_ffff_8100_0020;

    #[test]
    fn calls_jumps_and_addresses_in_code_are_found() {
        let mut image = image();
        let mut code = vec![0x90; 0x20];
        // call f; jmp f: both from the caller. je f; mov $f, %rdi; lea f(%rip), %rdi
        code[..5].copy_from_slice(&[0xe8, 0x1b, 0, 0, 0]);
        code[5..10].copy_from_slice(&[0xe9, 0x16, 0, 0, 0]);
        code[0x10..0x12].copy_from_slice(&[0x74, 0x0e]);
        code[0x12..0x19].copy_from_slice(&[0x48, 0xc7, 0xc7, 0x20, 0, 0, 0x81]);
        code[0x19..0x20].copy_from_slice(&[0x48, 0x8d, 0x3d, 0, 0, 0, 0]);
        image.code(
            0xffff_ffff_8100_0000,
            &code,
            &HashMap::from([(TARGET, "f")]),
        );
        assert_eq!(found(&image, "caller"), (2, 0));
        assert_eq!(found(&image, "other"), (1, 2));
    }

    #[test]
    fn pointers_in_data_are_found() {
        let mut image = image();
        let data: Vec<u8> = [1, TARGET, 0]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        image.data(
            0xffff_ffff_8200_0000,
            &data,
            &HashMap::from([(TARGET, "f")]),
        );
        assert_eq!(found(&image, "table"), (0, 1));
    }

    #[test]
    fn symbols_without_addresses_are_refused() {
        assert!(Symbols::parse("0000000000000000 T f\n").is_err());
        assert!(Symbols::parse("").is_err());
        let symbols = Symbols::parse(SYMBOLS).unwrap();
        assert_eq!(symbols.addresses("f"), [TARGET]);
        assert_eq!(symbols.clones("other"), [""; 0]);
    }
}
