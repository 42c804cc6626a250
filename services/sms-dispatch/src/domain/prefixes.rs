//! The first three digits that Mexican numbers can have.
//!
//! From libphonenumber's metadata of Mexico (9.0.43, Apache-2.0): the union of the patterns of fixed-line, mobile,
//! toll-free, premium-rate, shared-cost and personal numbers. The tests compare all thousand with the library,
//! so a newer version of it shows what to change here.

/// The first two digits, and the third digits that may follow them.
const ASSIGNED: [(u16, &str); 66] = [
    (20, "01"),
    (22, "0123456789"),
    (23, "1235678"),
    (24, "13456789"),
    (27, "12345689"),
    (28, "1234578"),
    (29, "467"),
    (30, "0"),
    (31, "12345679"),
    (32, "123456789"),
    (33, "0123456789"),
    (34, "123456789"),
    (35, "123456789"),
    (37, "12345678"),
    (38, "123456789"),
    (39, "12345"),
    (41, "12345789"),
    (42, "123456789"),
    (43, "12345678"),
    (44, "0123456789"),
    (45, "0123456789"),
    (46, "123456789"),
    (47, "123456789"),
    (48, "12356789"),
    (49, "2345689"),
    (50, "0"),
    (55, "0123456789"),
    (56, "0123456789"),
    (58, "8"),
    (59, "12345679"),
    (61, "234568"),
    (62, "123456789"),
    (63, "123456789"),
    (64, "123456789"),
    (65, "1236789"),
    (66, "012345789"),
    (67, "1234567"),
    (68, "67"),
    (69, "45678"),
    (71, "123456789"),
    (72, "0123456789"),
    (73, "123456789"),
    (74, "123456789"),
    (75, "13456789"),
    (76, "123456789"),
    (77, "0123456789"),
    (78, "1234569"),
    (79, "17"),
    (80, "0"),
    (81, "0123456789"),
    (82, "1345689"),
    (83, "123456"),
    (84, "12456"),
    (86, "1246789"),
    (87, "012378"),
    (88, "8"),
    (89, "12479"),
    (90, "0"),
    (91, "346789"),
    (92, "1234"),
    (93, "234678"),
    (95, "1348"),
    (96, "0123456789"),
    (97, "12"),
    (98, "12345678"),
    (99, "0123456789"),
];

/// One bit for each three digits.
static VALID: [u64; 16] = bitmap();

const fn bitmap() -> [u64; 16] {
    let mut bits = [0; 16];
    let mut row = 0;
    while row < ASSIGNED.len() {
        let (two, thirds) = ASSIGNED[row];
        let mut at = 0;
        while at < thirds.len() {
            let prefix = two * 10 + (thirds.as_bytes()[at] - b'0') as u16;
            bits[(prefix / 64) as usize] |= 1 << (prefix % 64);
            at += 1;
        }
        row += 1;
    }
    bits
}

/// Whether a number may begin with these three digits; `prefix` is below 1000.
pub(super) fn is_valid(prefix: u16) -> bool {
    VALID[usize::from(prefix / 64)] >> (prefix % 64) & 1 == 1
}
