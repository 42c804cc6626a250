use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
create table products (
    id text primary key check (length(id) between 1 and 64),
    codigo text not null check (length(codigo) between 1 and 64),
    nombre text not null check (length(nombre) between 1 and 255),
    categoria text not null check (length(categoria) between 1 and 64),
    presentacion text check (length(presentacion) <= 128),
    precio_unitario numeric(14, 2) not null check (precio_unitario >= 0),
    certificado_sanitario text not null check (length(certificado_sanitario) <= 255),
    condiciones_almacenamiento text not null check (length(condiciones_almacenamiento) <= 128),
    tiempo_entrega_dias integer not null check (tiempo_entrega_dias >= 1),
    stock_minimo integer not null check (stock_minimo >= 0),
    stock_critico integer not null check (stock_critico >= 0),
    requiere_lote boolean not null,
    requiere_vencimiento boolean not null,
    proveedor_id text not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- Words of the name, the code and the id, without accents: what a search looks at.
    words tsvector not null generated always as (
        to_tsvector('simple', translate(lower(nombre || ' ' || codigo || ' ' || id), 'áéíóúüñ', 'aeiouun'))
    ) stored,
    -- Checked at the end of a statement: one batch may free a code and give it to another product.
    constraint products_codigo_key unique (codigo) deferrable initially immediate
);
create index products_proveedor on products (proveedor_id, id);
create index products_categoria on products (categoria, id);
create index products_words on products using gin (words);

create table imports (
    -- The id of its job.
    id uuid primary key references jobs (id),
    proveedor_id text not null,
    filename text not null,
    replace_duplicates boolean not null,
    object_key text not null unique,
    size_bytes bigint not null,
    sha256 text not null,
    uploaded_by text not null,
    created_at timestamptz not null default now(),
    -- Set when it completes: total = accepted + rejected, accepted = created + updated.
    total integer,
    accepted integer,
    rejected integer,
    duplicates integer,
    created integer,
    updated integer,
    constraint imports_sums check (
        total is null or (total = accepted + rejected and accepted = created + updated)
    )
);
create index imports_recent on imports (created_at desc, id desc);
create index imports_proveedor on imports (proveedor_id, created_at desc, id desc);

-- What became of each row of a file: it stands in exactly one of the two.
create table import_rejections (
    import_id uuid not null references imports (id),
    row_number integer not null,
    code text not null,
    \"column\" text,
    value text,
    message text not null,
    primary key (import_id, row_number)
);
create table import_changes (
    import_id uuid not null references imports (id),
    row_number integer not null,
    product_id text not null,
    action text not null check (action in ('created', 'updated')),
    -- A file writes a product once: its first row with that id or code wins.
    primary key (import_id, product_id)
);
";

const DOWN: &str = "
drop table import_changes;
drop table import_rejections;
drop table imports;
drop table products;
";
