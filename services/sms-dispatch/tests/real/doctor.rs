//! The doctor finds what is wrong, each kind of it.

use anyhow::{Result, ensure};
use sms_dispatch::storage::doctor;

use crate::{
    source::{Row, numeros},
    world::World,
};

/// What goes wrong, how it is put right again, and what must be said of it.
const WRONGS: &[(&str, &str, &str)] = &[
    (
        "update contacts set phone_e164 = '+52612100470x' where phone_e164 = '+526121004701'",
        "update contacts set phone_e164 = '+526121004701' where phone_e164 = '+52612100470x'",
        ": +52612… is no phone in E.164 of Mexico",
    ),
    (
        "drop index contacts_phone;
         update contacts set phone_e164 = '+526121004702' where phone_e164 = '+526121004701'",
        "update contacts set phone_e164 = '+526121004701' where source_id = 1;
         create unique index contacts_phone on contacts (phone_e164)",
        "2 contacts have the phone +52612…",
    ),
    (
        "create table away as select * from contacts where source_id = 1; delete from contacts where source_id = 1",
        "insert into contacts overriding system value select * from away; drop table away",
        "import 1 says it created 3 contacts, there are 2",
    ),
    (
        "update contacts set import = 99 where source_id = 1",
        "update contacts set import = 1 where source_id = 1",
        "1 contacts of import 99, which does not exist or was rolled back",
    ),
    (
        "update imports set rolled_back_at = now() where number = 1",
        "update imports set rolled_back_at = null where number = 1",
        "3 contacts of import 1, which does not exist or was rolled back",
    ),
    (
        "update import_batches set rows = rows + 1 where import = 1 and phase = 'load'",
        "update import_batches set rows = rows - 1 where import = 1 and phase = 'load'",
        "import 1: its sums are not those of its batches",
    ),
    (
        "update import_batches set unchanged = unchanged + 1 where import = 2 and phase = 'merge'",
        "update import_batches set unchanged = unchanged - 1 where import = 2 and phase = 'merge'",
        "import 2: its sums are not those of its batches",
    ),
    (
        "insert into contact_rejects values (1, 77, 'x', 'phone_letters')",
        "delete from contact_rejects where source_id = 77",
        "import 1 says 1 rejected and 1 merged, the tables hold 2 and 1",
    ),
    (
        "insert into audience_files (id, filename, object_key, mapping, shape, rows, accepted, rejected, loaded_at, created_by)
         values (gen_random_uuid(), 'x.csv', 'audiences/x', '{}', '{}', 3, 2, 1, now(), 'test')",
        "delete from audience_files",
        " says it has 2 people and 1 rejected rows, the tables hold 0 and 0",
    ),
    (
        "insert into audience_files (id, filename, object_key, mapping, purged_at, created_by)
         values (gen_random_uuid(), 'x.csv', 'audiences/x', '{}', now() - interval '2 hours', 'test')",
        "delete from audience_files",
        ", and its people are still there",
    ),
    (
        "delete from contact_merges where import = 1",
        "insert into contact_merges values (1, 4, '+526121004703', 3)",
        "import 1 says 1 rejected and 1 merged, the tables hold 1 and 0",
    ),
    (
        "create table away as select * from contact_changes; delete from contact_changes",
        "insert into contact_changes select * from away; drop table away",
        "import 2 says it changed 1 contacts, of 0 it is known what they were before",
    ),
    (
        "insert into import_staged (import, phone_e164, lada, is_valid, source_id)
         values (1, '+526121004701', '612', true, 9)",
        "delete from import_staged",
        "import 1 has ended, and 1 of its rows are still staged",
    ),
    (
        "insert into contact_changes values (2, 999999, '{}', '{}');
         update imports set updated = updated + 1, source_rows = source_rows + 1 where number = 2",
        "delete from contact_changes where contact_id = 999999;
         update imports set updated = updated - 1, source_rows = source_rows - 1 where number = 2",
        "import 2 changed contact 999999, which is gone",
    ),
    (
        "insert into consent_withdrawals values ('+526121004701', 'ana');
         update contacts set consent = 'contrato' where source_id = 1",
        "delete from consent_withdrawals; update contacts set consent = 'unknown' where source_id = 1",
        "has the consent contrato, which was taken back",
    ),
    (
        "update contacts set operator = 'TELCEL', is_mobile = true where source_id = 1",
        "update contacts set operator = null, is_mobile = null where source_id = 1",
        "has the operator TELCEL, which is not the numbering plan's",
    ),
    (
        "insert into suppressions values ('+526121004701', 'opt_out', now() - interval '10 minutes', 'sms')",
        "delete from suppressions",
        "and may still be written to",
    ),
];

#[tokio::test]
async fn each_wrong_is_found_and_what_is_right_is_not() -> Result<()> {
    let world = World::new("smsdoctor").await?;
    let rows = [
        Row::new(1, "6121004701").nombre("ANA"),
        Row::new(2, "6121004702"),
        Row::new(3, "6121004703"),
        Row::new(4, "0446121004703"),
        Row::new(5, "letras"),
    ];
    world.import(&numeros(&world, "a.db", &rows)?).await?;
    let more = [Row::new(1, "6121004701").nombre("ANA MARÍA"), Row::new(2, "6121004702")];
    world.import(&numeros(&world, "b.db", &more)?).await?;
    for (wrong, right, told) in WRONGS {
        world.is_sound().await?;
        world.execute(wrong).await?;
        let found = doctor::doctor(&world.pool).await?;
        ensure!(found.iter().any(|found| found.contains(told)), "{wrong}: {found:#?}");
        world.execute(right).await?;
    }
    for index in sms_dispatch::storage::indexes::ALL {
        world.is_sound().await?;
        world.execute(&index.drop()).await?;
        let found = doctor::doctor(&world.pool).await?;
        ensure!(found == [format!("contacts has no index {}", index.name)], "{found:#?}");
        world.execute(&index.create()).await?;
    }
    world.is_sound().await
}
