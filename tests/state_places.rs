//! States that real contracts leave go into a state file and come back equal, slot by slot, with nothing known of their storage but what
//! they were seen to hash.

#[allow(dead_code, reason = "other tests make other calls")]
mod calls;
#[allow(dead_code, reason = "nothing is in the examples")]
mod corpus;

use std::path::Path;

use calls::{Generator, of_interface};
use libtest_mimic::{Arguments, Failed, Trial};
use zvm::evm::Evm;
use zvm::evm::deploy::deploy;
use zvm::places::{Order, Places};
use zvm::{Error, Exit, Input, Source, State, state_file};
use zvm_ir::outcome::Halt;

/// Mappings by address, nested ones, arrays of structs, enumerable sets, strings; by each family of compilers.
const CONTRACTS: &[&str] = &[
    "0x__WETH9__0.5.17-artifact",
    "ens__ENSRegistry__0.5.0-artifact",
    "openzeppelin__ERC20PresetFixedSupply__0.8.15-noopt",
    "openzeppelin__ERC20PresetFixedSupply__0.8.4-o200",
    "openzeppelin__ERC20PresetMinterPauser__0.6.12-noopt",
    "openzeppelin__ERC20PresetMinterPauser__0.8.20-ir200",
    "openzeppelin__ERC721PresetMinterPauserAutoId__0.6.12-o200",
    "openzeppelin__ERC721PresetMinterPauserAutoId__0.8.10-noopt",
    "uniswap-v2__UniswapV2ERC20__0.5.16-o200",
    "vyper-examples_ERC20__ERC20__vy0.3.10",
    "vyper-examples_ERC20__ERC20__vy0.4.0",
    "vyper-examples_ERC20__ERC20__vy0.4.3-venom",
    "vyper-examples_ERC721__ERC721__vy0.4.3",
    "zeppelin__ERC721Token__0.4.24-o200",
];

/// Calls of each contract, all its functions in turn.
const CALLS: usize = 200;

fn main() {
    let arguments = Arguments::from_args();
    let contract = |name: &&'static str| {
        let file = format!("contracts/{name}.json");
        corpus::trial(name, &file, check)
    };
    let tests: Vec<Trial> = CONTRACTS.iter().map(contract).collect();
    libtest_mimic::run(&arguments, tests).exit();
}

fn failed(error: impl ToString) -> Failed {
    error.to_string().into()
}

fn check(path: &Path) -> Result<(), Failed> {
    let input = Input::read(&path.display().to_string(), None).map_err(failed)?;
    let Source::Contract(contract) = &input.source else { return Err("not a contract".into()) };
    let (Some(creation), Some(abi)) = (&contract.creation, &contract.abi) else { return Err("no creation".into()) };
    let order = if path.display().to_string().contains("vyper") { Order::PlaceFirst } else { Order::KeyFirst };
    let mut generator = Generator::new(7 + contract.runtime.len() as u64);
    let mut known = Places::new(order);
    let deployment = (0..40).find_map(|_| {
        let call = generator.construction(abi.constructor.as_ref());
        deploy(&[creation.as_slice(), &call.calldata].concat(), &call.env, &State::default()).ok()
    });
    let deployment = deployment.ok_or("the constructor refuses all arguments")?;
    deployment.preimages.iter().for_each(|bytes| known.add_preimage(bytes));
    known.add_code(&deployment.runtime);

    let mut state = deployment.state;
    let evm = Evm::new(&deployment.runtime);
    let mut returned = 0;
    for at in 0..CALLS {
        let call = of_interface(&mut generator, abi, at);
        match evm.preimages(&call.calldata, &call.env_in(&state), &state) {
            Ok((execution, hashed)) => {
                hashed.iter().for_each(|bytes| known.add_preimage(bytes));
                returned += usize::from(execution.outcome.halt == Halt::Return);
                generator.learn(&execution.outcome.data);
                state.apply(&execution.changes);
            }
            Err(error) if error.exit() == Exit::Limit => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let slots: usize = state.accounts.values().map(|account| account.storage.len()).sum();
    if returned < 20 || slots < 3 {
        return Err(format!("only {returned} calls returned and left {slots} slots").into());
    }
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("state.zvms");
    let places = |_: &_| known.clone();
    let storage = state_file::import(&file, "bn254", &state, &places).map_err(failed)?;
    storage.check().map_err(failed)?;
    if state_file::export(storage.as_ref()).map_err(failed)?.to_json() != state.to_json() {
        return Err("the state comes back otherwise".into());
    }
    // Without what was seen, the first slot of a mapping is named.
    let unknown = |_: &_| Places::new(order);
    match state_file::import(&folder.path().join("other"), "bn254", &state, &unknown) {
        Err(Error::StateFile { .. }) => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err("nothing is missing".into()),
    }
}
