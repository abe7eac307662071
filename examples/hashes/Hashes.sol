// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// Hashes of what is passed in: commitments, Merkle paths, chains. No storage.
contract Hashes {
    /// The hash of two words.
    function pair(bytes32 a, bytes32 b) public pure returns (bytes32) {
        return keccak256(abi.encode(a, b));
    }

    /// A commitment of the caller to an amount. Two permutations: five words are more than one takes.
    function commitment(address to, uint256 amount, bytes32 salt, uint64 deadline) external view returns (bytes32) {
        require(deadline > block.timestamp, "too late");
        return keccak256(abi.encode(msg.sender, to, amount, salt, deadline));
    }

    /// Whether a leaf is under a root, by a path of three hashes of sorted pairs.
    function isMember(bytes32 root, bytes32 leaf, bytes32 first, bytes32 second, bytes32 third)
        external
        pure
        returns (bool)
    {
        return parent(parent(parent(leaf, first), second), third) == root;
    }

    function parent(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? pair(a, b) : pair(b, a);
    }

    /// A seed hashed several times.
    function chain(bytes32 seed, uint8 times) external pure returns (bytes32 link) {
        link = seed;
        for (uint256 i = 0; i < times; i++) {
            assembly ("memory-safe") {
                mstore(0, link)
                link := keccak256(0, 32)
            }
        }
    }
}
