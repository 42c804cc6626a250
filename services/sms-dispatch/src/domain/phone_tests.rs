//! Every rule of the normaliser, by table and by property.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn outcome(raw: &[u8]) -> Result<(String, bool), Reason> {
    normalise(raw).map(|normalised| (normalised.phone.to_string(), normalised.changed))
}

/// Each raw text is the number, and was changed.
fn all_mean(e164: &str, raws: &[&str]) {
    for raw in raws {
        assert_eq!(outcome(raw.as_bytes()), Ok((e164.to_owned(), true)), "{raw:?}");
    }
}

fn all_fail(reason: Reason, raws: &[&str]) {
    for raw in raws {
        assert_eq!(outcome(raw.as_bytes()), Err(reason), "{raw:?}");
    }
}

#[test]
fn ten_digits_are_taken_as_they_are() {
    for national in ["6121004768", "5512345678", "3312345678", "8001234568", "2221234568", "9999999998"] {
        assert_eq!(outcome(national.as_bytes()), Ok((format!("+52{national}"), false)));
    }
}

#[test]
fn legacy_prefixes_are_stripped() {
    all_mean(
        "+525512345678",
        &[
            "+525512345678",
            "525512345678",
            "+5215512345678",
            "5215512345678",
            "00525512345678",
            "005215512345678",
            "011525512345678",
            "0115215512345678",
            "0445512345678",
            "0455512345678",
            "015512345678",
            "+015512345678",
            "+0445512345678",
            "+00525512345678",
            "5512345678.0",
        ],
    );
    // The ten digits that follow may look like a prefix themselves.
    all_mean("+524424424424", &["+524424424424", "0444424424424", "524424424424", "5214424424424"]);
}

#[test]
fn only_digits_count() {
    all_mean(
        "+525512345678",
        &[
            " 5512345678",
            "5512345678\r\n",
            "55 1234 5678",
            "55-1234-5678",
            "(55) 1234.5678",
            "+52 (55) 1234-5678",
            "(+52) 1 55 1234 5678",
            "\u{feff}5512345678",
            "\u{202a}+52 55 1234 5678\u{202c}",
            "55\u{a0}1234\u{2011}5678",
            "\u{ff0b}52 55 1234 5678",
            "'5512345678",
            "55/1234/5678",
        ],
    );
}

#[test]
fn digits_after_the_point_are_no_digits_of_the_phone() {
    all_mean(
        "+525512345678",
        &[
            "5512345678.0",
            "5512345678.00",
            "5512345678,0",
            "5512345678.000 ",
            "5,512,345,678.00",
            "525512345678.0",
            "5215512345678.0",
            "+52 55 1234 5678.0",
            // Points between groups of a phone's digits are none of a number.
            "55.1234.5678",
            "55.12.34.56.78",
            "551234.5678",
            "551.234.56.78",
        ],
    );
    // Nine digits and a decimal would be somebody else's ten.
    all_fail(
        Reason::TooShort,
        &[
            "551234567.0",
            "551234567,0",
            "551,234,567.0",
            "551.234.567,0",
            "55123456.00",
            "5512345.000",
            "52551234567.0",
            "551234567\u{ff0e}0",
            "551234567\u{66b}0",
        ],
    );
    all_fail(Reason::BadStart, &["521551234567.0"]);
    all_fail(
        Reason::Decimals,
        &["551234567.8", "55123456.78", "5512345678.5", "551234567,8", "551,234,567.8"],
    );
    all_fail(Reason::Letters, &["5.51235E+09", "5,51235E+09", "5.51235e9"]);
    all_fail(Reason::Empty, &[".0", ",00"]);
}

#[test]
fn what_is_no_text_of_digits() {
    all_fail(Reason::Empty, &["", " ", "+", "---", "()"]);
    all_fail(
        Reason::Letters,
        &[
            "x",
            "N/A",
            "551234567O",
            "5512345678 ext 2",
            "5.512345678E9",
            "５５１２３４５６７８",
            "551234567²",
            "tel:5512345678",
        ],
    );
    assert_eq!(outcome(b"5512345678\0"), Err(Reason::NulByte));
    assert_eq!(outcome(b"\0"), Err(Reason::NulByte));
    assert_eq!(outcome(b"55123\xff5678"), Err(Reason::BadUtf8));
    assert_eq!(outcome(b"5512345678\xc3"), Err(Reason::BadUtf8));
    // Longer than any spelling, whatever it holds.
    assert_eq!(outcome(format!("{:>65}", 5_512_345_678_u64).as_bytes()), Err(Reason::TooLong));
    assert!(outcome(format!("{:>64}", 5_512_345_678_u64).as_bytes()).is_ok());
}

#[test]
fn too_few_and_too_many_digits() {
    all_fail(
        Reason::TooShort,
        &[
            "1",
            "551234567",
            "12345678",
            "+52551234567",
            "52551234567",
            "0052 5512",
            "+52",
            "044551234567",
            "000",
            "+12345",
        ],
    );
    all_fail(
        Reason::TooLong,
        &[
            "+5255123456789",
            "52155123456789",
            "05512345678",
            "04455123456789",
            "5512345678 5587654321",
            "1234567890123456",
            "0155123456789",
            "52 044 55 1234 5678",
        ],
    );
}

#[test]
fn other_countries() {
    all_fail(
        Reason::NorthAmerica,
        &["+12125550123", "12125550123", "0012125550123", "01112125550123", "+1 (212) 555-0123"],
    );
    all_fail(
        Reason::OtherCountry,
        &[
            "+34612345678",
            "34612345678",
            "0034612345678",
            "+573001234567",
            "573001234567",
            "+4712345678",
            "005512345678",
            "55123456789",
            "+5512345678",
        ],
    );
}

#[test]
fn what_the_numbering_plan_does_not_have() {
    all_fail(
        Reason::BadStart,
        &["0123456789", "1234567890", "+521234567890", "0441234567890", "0000000000", "1111111111"],
    );
    all_fail(
        Reason::UnassignedLada,
        &["2021234567", "5212345678", "525212345678", "+525212345678", "6001234567"],
    );
}

#[test]
fn junk() {
    all_fail(
        Reason::RepeatedDigit,
        &[
            "5555555555",
            "5500000000",
            "5511111111",
            "+525511111111",
            "2222222222",
            "6120000000",
            "6127777777",
            "9999999999",
        ],
    );
    all_fail(Reason::Sequence, &["6121234567", "2221234567", "5501234567"]);
    for near in ["5500000001", "5511111112", "6121234568", "5551234567", "5512345678", "6127777778"] {
        assert!(outcome(near.as_bytes()).is_ok(), "{near}");
    }
}

#[test]
fn parts_of_a_number() {
    let phone = normalise(b"0446121004768").expect("a number").phone;
    assert_eq!(&phone.e164(), b"+526121004768");
    assert_eq!(&phone.national(), b"6121004768");
    assert_eq!(phone.number(), 6_121_004_768);
    assert_eq!(phone.to_string(), "+526121004768");
    assert_eq!(phone.masked(), "+52******4768");
    assert_eq!(phone.lada().as_str(), "612");
    for (national, lada) in [
        ("3312345678", "33"),
        ("5512345678", "55"),
        ("5612345678", "56"),
        ("8112345678", "81"),
        ("5912345678", "591"),
        ("8212345678", "821"),
    ] {
        let phone = normalise(national.as_bytes()).expect("a number").phone;
        assert_eq!(phone.lada().to_string(), lada);
        assert_eq!(Lada::parse(lada), Some(phone.lada()));
    }
    for no_lada in ["", "3", "34", "333", "551", "061", "152", "6121", "61a", "6\u{e9}"] {
        assert_eq!(Lada::parse(no_lada), None, "{no_lada:?}");
    }
}

#[test]
fn e164_is_read_back_strictly() {
    assert_eq!(Phone::from_e164("+526121004768").map(Phone::number), Some(6_121_004_768));
    for other in [
        "6121004768",
        "526121004768",
        "+52 6121004768",
        "+5261210047680",
        "+521234567890",
        "+525511111111",
        "",
    ] {
        assert_eq!(Phone::from_e164(other), None, "{other:?}");
    }
}

#[test]
fn reasons_have_a_code_each() {
    let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    assert!(Reason::ALL.iter().all(|reason| !reason.message().is_empty()));
}

proptest! {
    #[test]
    fn any_bytes_have_an_outcome(raw in prop::collection::vec(any::<u8>(), 0..80)) {
        check_outcome(&raw)?;
    }

    #[test]
    fn nearly_numbers_have_an_outcome(raw in "[+( ]{0,2}(00|011|044|045|01|52|521|1)?[0-9 .-]{6,14}[x\\u{e9} ]?") {
        check_outcome(raw.as_bytes())?;
    }

    #[test]
    fn every_spelling_of_a_number_is_that_number(national in 2_000_000_000_u64..10_000_000_000, spelling in 0..8_usize) {
        let prefix = ["", "+52", "52", "+521", "0052", "044", "045", "01"][spelling];
        let plain = normalise(national.to_string().as_bytes());
        let spelled = normalise(format!("{prefix}{national}").as_bytes());
        prop_assert_eq!(plain.map(|plain| plain.phone), spelled.map(|spelled| spelled.phone));
    }
}

/// An accepted text is ten digits or changed, and its number normalises to itself in both forms.
fn check_outcome(raw: &[u8]) -> Result<(), TestCaseError> {
    let Ok(Normalised { phone, changed }) = normalise(raw) else { return Ok(()) };
    prop_assert_eq!(changed, raw != phone.national());
    prop_assert_eq!(normalise(&phone.national()), Ok(Normalised { phone, changed: false }));
    prop_assert_eq!(normalise(&phone.e164()), Ok(Normalised { phone, changed: true }));
    prop_assert_eq!(Phone::from_e164(&phone.to_string()), Some(phone));
    prop_assert_eq!(Lada::parse(phone.lada().as_str()), Some(phone.lada()));
    Ok(())
}
