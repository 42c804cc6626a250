use super::phone::Phone;
#[derive(Default, Debug)]
pub struct NumberingPlan;
pub struct Range { pub is_mobile: bool, pub operator: Option<String> }
impl NumberingPlan { pub fn lookup(&self, _phone: Phone) -> Option<&Range> { None } }
