//! `docs/optimiser.md` says what the optimiser achieves today. Without `ZVM_SLOW=1` it is not looked at: every contract of
//! the corpus is compiled. `INSTA_UPDATE=always` writes the page anew. Beside it: real contracts after each pass, what becomes of a
//! token, and what work passes do.

mod beside;
#[expect(dead_code, reason = "shared with the fuzz targets, which have more of them")]
#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../calls/mod.rs"]
mod calls;
#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../corpus/mod.rs"]
mod corpus;
mod each_pass;
mod erc20;
mod growth;
mod report;

use std::path::Path;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        corpus::trial("erc20", erc20::FILE, erc20::functions),
        corpus::trial("each_pass_keeps_the_outcome", "contracts", each_pass::contracts),
        corpus::trial("each_pass_keeps_the_outcome_of_the_suites", "ethereum-tests", each_pass::suites),
        corpus::trial("work_grows_with_the_largest_contract", "contracts", growth::largest_contract),
    ];
    if std::env::var_os("ZVM_SLOW").is_some() {
        trials.push(corpus::trial("the_page_is_up_to_date", "contracts", |_| {
            let folder = corpus::folder().ok_or("there is no corpus")?;
            let page = report::page(&folder)?;
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/optimiser.md");
            if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
                std::fs::write(&file, &page).map_err(|error| error.to_string())?;
            }
            let written = std::fs::read_to_string(&file).unwrap_or_default();
            match page.lines().zip(written.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old) {
                None if page.lines().count() == written.lines().count() => Ok(()),
                first => Err(format!(
                    "docs/optimiser.md says something else; write it anew with INSTA_UPDATE=always and review the change: {first:?}"
                )
                .into()),
            }
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}
