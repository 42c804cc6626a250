use sea_orm_migration::prelude::*;

use crate::storage::indexes;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let conn = manager.get_connection();
        conn.execute_unprepared(UP).await?;
        for index in indexes::ALL {
            conn.execute_unprepared(&index.create()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

/// `plain()` and its indexes served searches before. They find nobody by a part of `MA.GUADALUPE`, `12-34` or `S/N`, which
/// PostgreSQL's parser takes for a host, a negative number and a path. `plain()` stays: it is what words asked for go through,
/// whose operators it must leave.
const UP: &str = "
-- What a search compares: as plain(), and what PostgreSQL's parser takes for more than a word's end is a blank; all other signs
-- are blanks to it already. Not strict, for then it would be called for each row of an index, not inlined. Most texts are of
-- ASCII: those are not looked through for accents.
create function words(value text) returns text language sql immutable parallel safe
    return case when octet_length(value) = length(value) then translate(lower(value), '.-/+~<&@', '        ')
           else translate(lower(value), 'áàäâãéèëêíìïîóòöôõúùüûñç.-/+~<&@', 'aaaaaeeeeiiiiooooouuuunc        ') end;
drop index if exists contacts_name_words, contacts_address_words;
";

const DOWN: &str = "
drop index if exists contacts_words_of_names, contacts_words_of_addresses;
drop function words(text);
create index contacts_name_words on contacts using gin (to_tsvector('simple', plain(full_name)));
create index contacts_address_words on contacts using gin (to_tsvector('simple', plain(address)));
";
