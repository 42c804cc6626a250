use sea_orm::sqlx::{self, PgPool};
use crate::domain::numbering_plan::NumberingPlan;
pub async fn read(_pool: &PgPool) -> sqlx::Result<NumberingPlan> { Ok(NumberingPlan) }
