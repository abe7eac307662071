// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// Arithmetic on unsigned numbers with 18 decimals. Stateless; everything that does not fit reverts.
contract FixedPoint {
    uint256 private constant ONE = 1e18;

    error DivisionByZero(uint256 numerator);
    error AboveOne(uint256 weight);

    /// a · b, rounded down.
    function mul(uint256 a, uint256 b) external pure returns (uint256) {
        return _mul(a, b);
    }

    /// a / b, rounded down.
    function div(uint256 a, uint256 b) external pure returns (uint256) {
        return _div(a, b);
    }

    /// The square root of x, rounded down.
    function sqrt(uint256 x) external pure returns (uint256) {
        return _sqrt(x * ONE);
    }

    /// The weighted mean of a and b; weight 0 gives a, weight 1 gives b.
    function mix(uint256 a, uint256 b, uint256 weight) external pure returns (uint256) {
        if (weight > ONE) revert AboveOne(weight);
        return _mul(a, ONE - weight) + _mul(b, weight);
    }

    /// The amount that `principal` grows to in `periods` periods at `rate` per period, compounded.
    function compound(uint256 principal, uint64 rate, uint32 periods) external pure returns (uint256) {
        uint256 factor = ONE;
        uint256 base = ONE + rate;
        // Square and multiply.
        for (uint256 left = periods; left != 0; left >>= 1) {
            if (left & 1 == 1) factor = _mul(factor, base);
            if (left > 1) base = _mul(base, base);
        }
        return _mul(principal, factor);
    }

    /// The signed difference a − b, at most `limit` in size.
    function clampedDifference(uint256 a, uint256 b, uint128 limit) external pure returns (int256) {
        int256 bound = int256(uint256(limit));
        int256 difference = a >= b ? _signed(a - b) : -_signed(b - a);
        if (difference > bound) return bound;
        if (difference < -bound) return -bound;
        return difference;
    }

    function _mul(uint256 a, uint256 b) private pure returns (uint256) {
        return a * b / ONE;
    }

    function _div(uint256 a, uint256 b) private pure returns (uint256) {
        if (b == 0) revert DivisionByZero(a);
        return a * ONE / b;
    }

    function _signed(uint256 a) private pure returns (int256) {
        require(a <= uint256(type(int256).max));
        return int256(a);
    }

    /// Newton's method from a power of two that is not below the root.
    function _sqrt(uint256 x) private pure returns (uint256 root) {
        if (x == 0) return 0;
        root = 1;
        for (uint256 left = x; left != 0; left >>= 2) root <<= 1;
        while (true) {
            uint256 next = (root + x / root) >> 1;
            if (next >= root) return root;
            root = next;
        }
    }
}
