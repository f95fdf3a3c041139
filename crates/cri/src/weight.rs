//! What both sides of the CRI must compute alike: the request of a CPU, on the two kinds of control groups.

/// Shares of cgroup v1 (2 to 262144) as a weight of v2 (1 to 10000). 1024 shares, which is one CPU and v1's default, are
/// v2's default, 100: `10^(l²/612 + 125·l/612 - 7/34)`, `l` being the binary logarithm, as runtimes convert since runc 1.3.2.
pub fn cpu_weight(shares: u64) -> u64 {
    let l = f64::from(u32::try_from(shares.clamp(2, 262_144)).unwrap_or(2)).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // A round result must not become the next number by its last digit.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = (10_f64.powf(exponent) - 1e-9).ceil() as u64;
    weight.clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        for (shares, expected) in
            [(0, 1), (2, 1), (102, 17), (1024, 100), (2048, 174), (262_144, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(cpu_weight(shares), expected, "{shares}");
        }
    }
}
