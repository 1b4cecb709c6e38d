//! Function sizes: a function fits on a screen.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use syn::spanned::Spanned as _;
use syn::visit::Visit;

use super::{Finding, is_rust, is_test};

/// Lines of a function from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Tests may tell a longer story.
const TEST_FUNCTION_LINES_MAX: usize = 120;

pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| is_rust(path)) {
        let text = std::fs::read_to_string(root.join(path))
            .with_context(|| format!("read {}", path.display()))?;
        let file = match syn::parse_file(&text) {
            Ok(file) => file,
            Err(error) => {
                findings.push(Finding::new(
                    path.display().to_string(),
                    format!("does not parse as Rust: {error}"),
                ));
                continue;
            }
        };
        let mut visitor = Functions {
            place: path.display().to_string(),
            in_tests: is_test(path),
            findings: &mut findings,
        };
        visitor.visit_file(&file);
    }
    Ok(findings)
}

struct Functions<'a> {
    place: String,
    in_tests: bool,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, block: &syn::Block) {
        let start = name.span().start().line;
        let lines = block.span().end().line.saturating_sub(start) + 1;
        let limit = if self.in_tests {
            TEST_FUNCTION_LINES_MAX
        } else {
            FUNCTION_LINES_MAX
        };
        if lines > limit {
            self.findings.push(Finding::new(
                format!("{}:{start}", self.place),
                format!("fn {name} has {lines} lines, at most {limit}"),
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let outer = self.in_tests;
        self.in_tests = outer || module.ident == "tests";
        syn::visit::visit_item_mod(self, module);
        self.in_tests = outer;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig.ident, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig.ident, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }
}
