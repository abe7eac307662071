// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// The 3n + 1 problem: how many steps lead from n to 1.
contract Collatz {
    /// Nothing leads from zero to one.
    error NotPositive();

    /// Reverts with Panic(0x11) when a number on the way does not fit 256 bits.
    function steps(uint256 n) external pure returns (uint256 count) {
        if (n == 0) revert NotPositive();
        while (n != 1) {
            n = n % 2 == 0 ? n / 2 : 3 * n + 1;
            count++;
        }
    }
}
