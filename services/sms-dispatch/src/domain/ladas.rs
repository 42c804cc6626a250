use super::{phone::Lada, states::State};
pub struct LadaInfo { pub state: Option<State>, pub city: Option<&'static str> }
pub fn of(_lada: Lada) -> Option<&'static LadaInfo> { None }
