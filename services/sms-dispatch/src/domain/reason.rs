//! Why a row has no Mexican phone number.

/// Why [`super::normalise`] rejects a text, or a reader the row that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No digit at all.
    Empty,
    /// A NUL byte, which PostgreSQL stores in no text.
    NulByte,
    /// Bytes that aren't UTF-8.
    BadUtf8,
    /// Letters, or digits that aren't ASCII.
    Letters,
    /// A number with decimals that are not all zeros.
    Decimals,
    /// Fewer than ten digits.
    TooShort,
    /// More digits than a number has, or more text than spells one.
    TooLong,
    /// 1 and ten digits: the United States, Canada, the Caribbean.
    NorthAmerica,
    /// Another country code than 52.
    OtherCountry,
    /// Ten digits that begin with 0 or 1.
    BadStart,
    /// Ten digits whose area code the numbering plan doesn't have.
    UnassignedLada,
    /// The same digit all through after the LADA.
    RepeatedDigit,
    /// 1234567 after the LADA, or 01234567 where eight digits follow it.
    Sequence,
    /// The row has more values than the file has columns: which of them is the phone is not known.
    TooManyValues,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 14] = [
        Self::Empty,
        Self::NulByte,
        Self::BadUtf8,
        Self::Letters,
        Self::Decimals,
        Self::TooShort,
        Self::TooLong,
        Self::NorthAmerica,
        Self::OtherCountry,
        Self::BadStart,
        Self::UnassignedLada,
        Self::RepeatedDigit,
        Self::Sequence,
        Self::TooManyValues,
    ];

    /// Its name in tables, reports and APIs, which stays.
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "phone_empty",
            Self::NulByte => "phone_nul_byte",
            Self::BadUtf8 => "phone_bad_utf8",
            Self::Letters => "phone_letters",
            Self::Decimals => "phone_decimals",
            Self::TooShort => "phone_too_short",
            Self::TooLong => "phone_too_long",
            Self::NorthAmerica => "phone_north_america",
            Self::OtherCountry => "phone_other_country",
            Self::BadStart => "phone_bad_start",
            Self::UnassignedLada => "phone_unassigned_lada",
            Self::RepeatedDigit => "phone_repeated_digit",
            Self::Sequence => "phone_sequence",
            Self::TooManyValues => "too_many_values",
        }
    }

    /// What is wrong, for people.
    pub fn message(self) -> &'static str {
        match self {
            Self::Empty => "El número está vacío: escriba diez dígitos",
            Self::NulByte => "El número contiene un byte nulo: el dato de origen está dañado",
            Self::BadUtf8 => "El número contiene bytes que no son UTF-8: el dato de origen está dañado",
            Self::Letters => "El número contiene letras: escriba solo dígitos",
            Self::Decimals => {
                "Es un número con decimales: dé a la columna formato de texto y escriba diez dígitos"
            }
            Self::TooShort => "Faltan dígitos: un número mexicano tiene diez",
            Self::TooLong => "Sobran dígitos: un número mexicano tiene diez, con o sin la clave 52",
            Self::NorthAmerica => {
                "Clave de país 1 (Estados Unidos, Canadá o el Caribe): solo se admiten números de México"
            }
            Self::OtherCountry => {
                "Tiene más de diez dígitos u otra clave de país, y no es la 52: solo se admiten números de México"
            }
            Self::BadStart => "Un número mexicano de diez dígitos no empieza con 0 ni con 1",
            Self::UnassignedLada => "La lada no existe en el plan de numeración de México",
            Self::RepeatedDigit => "Número inventado: repite un solo dígito después de la lada",
            Self::Sequence => "Número inventado: tiene la secuencia 1234567 después de la lada",
            Self::TooManyValues => {
                "La fila tiene más valores que nombres el encabezado: ponga entre comillas los que contienen el separador, y nombre cada columna"
            }
        }
    }
}

/// As [`Reason::message`].
impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for Reason {}
