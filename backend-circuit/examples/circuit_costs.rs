//! Prints what instructions cost, `docs/circuit-costs.md`.

use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::reference::markdown;

fn main() -> Result<(), CircuitError> {
    print!("{}", markdown()?);
    Ok(())
}
