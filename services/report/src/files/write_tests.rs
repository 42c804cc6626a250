use proptest::prelude::*;

use super::*;

fn written(params: &Params, records: &[Vec<Field<'_>>]) -> Result<Vec<u8>, Unencodable> {
    let mut writer = Writer::new(params);
    for record in records {
        writer.fields(record.iter().copied())?;
        writer.end();
    }
    Ok(writer.out)
}

fn text(text: &str) -> Field<'_> {
    Field::Text(text.as_bytes())
}

fn txt() -> Params {
    Params { format: Format::Txt, separator: '|', ..Params::default() }
}

#[test]
fn the_head_is_the_one_its_readers_know() {
    let mut writer = Writer::new(&Params::default());
    writer.head(&DETAIL).expect("UTF-8");
    assert_eq!(
        String::from_utf8(writer.out).expect("UTF-8"),
        "ID Campaña,Nombre Campaña,Fecha Campaña,Teléfono,Mensaje,Fecha Envío,Estado Mensaje,Error\r\n"
    );
}

#[test]
fn csv_quotes_what_rfc_4180_says() {
    let record = vec![text("a"), text("b,c"), text("di\"jo"), text("dos\nlíneas"), text(""), text("a;b")];
    let bytes = written(&Params::default(), &[record]).expect("UTF-8");
    assert_eq!(String::from_utf8(bytes).expect("UTF-8"), "a,\"b,c\",\"di\"\"jo\",\"dos\nlíneas\",,a;b\r\n");
}

#[test]
fn formulas_are_texts_and_phones_are_phones() {
    let phone = Field::Plain(b"+573001234567");
    for evil in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
        let csv = written(&Params::default(), &[vec![text(evil), phone]]).expect("UTF-8");
        let csv = String::from_utf8(csv).expect("UTF-8");
        assert!(csv.trim_start_matches('"').starts_with(&format!("'{evil}")), "{csv}");
        assert!(csv.ends_with(",+573001234567\r\n"), "{csv}");
    }
    let quoted = written(&Params::default(), &[vec![text("=HYPERLINK(\"x\",1)")]]).expect("UTF-8");
    assert_eq!(quoted, b"\"'=HYPERLINK(\"\"x\"\",1)\"\r\n");
    assert_eq!(written(&txt(), &[vec![text("=1"), phone]]).expect("UTF-8"), b"'=1|+573001234567\n");
}

#[test]
fn txt_escapes_what_is_documented() {
    let record = vec![text("a|b"), text("c\\d"), text("e\nf\rg\th"), text("\"")];
    assert_eq!(written(&txt(), &[record]).expect("UTF-8"), b"a\\|b|c\\\\d|e\\nf\\rg\\th|\"\n");
}

#[test]
fn a_mark_comes_first_and_once() {
    let params = Params { encoding: Encoding::Utf8Bom, ..Params::default() };
    let file = written(&params, &[vec![text("ñ")], vec![text("o")]]).expect("UTF-8");
    assert_eq!(file, "\u{feff}ñ\r\no\r\n".as_bytes());
    let latin = Params { encoding: Encoding::Latin1, ..Params::default() };
    assert_eq!(written(&latin, &[vec![text("\"ñ\"")]]).expect("there"), b"\"\"\"\xf1\"\"\"\r\n");
    assert!(written(&latin, &[vec![text("a,😀")]]).is_err());
}

/// What a reader of TXT does.
fn unescaped(line: &str, separator: char) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        let last = fields.last_mut().expect("one at least");
        match c {
            '\\' => match characters.next().expect("a backslash is never the last") {
                'n' => last.push('\n'),
                'r' => last.push('\r'),
                't' => last.push('\t'),
                other => last.push(other),
            },
            c if c == separator => fields.push(String::new()),
            c => last.push(c),
        }
    }
    fields
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        records in proptest::collection::vec(
            proptest::collection::vec("[a-zñ€,;|\"'\\\\ \t\r\n]{0,10}", 2..5), 1..6),
        separator in proptest::sample::select(vec![',', ';', '|', '\t', '~']),
    ) {
        let fields: Vec<Vec<Field<'_>>> = records
            .iter()
            .map(|record| record.iter().map(|text| Field::Plain(text.as_bytes())).collect())
            .collect();
        let csv = written(&Params { separator, ..Params::default() }, &fields).expect("UTF-8");
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator as u8)
            .from_reader(&csv[..]);
        let read: Vec<Vec<String>> = reader
            .records()
            .map(|record| record.expect("CSV").iter().map(str::to_owned).collect())
            .collect();
        prop_assert_eq!(&read, &records);

        let txt = written(&Params { separator, ..txt() }, &fields).expect("UTF-8");
        let txt = String::from_utf8(txt).expect("UTF-8");
        let read: Vec<Vec<String>> =
            txt.strip_suffix('\n').expect("an end").split('\n').map(|line| unescaped(line, separator)).collect();
        prop_assert_eq!(read, records);
    }
}
