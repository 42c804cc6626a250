// Compiled against the generated types: what a front end would write. A change of the API that breaks it breaks this.
import type { components, operations, paths } from "./schema";

type Body<Operation extends keyof operations, Status extends keyof operations[Operation]["responses"]> =
  operations[Operation]["responses"][Status] extends { content: { "application/json": infer Json } } ? Json : never;

type Products = Body<"catalog_upload_products_list", 200>;
type Upload = Body<"catalog_upload_imports_create", 202>;
type Contacts = Body<"sms_dispatch_contacts_list", 200>;
type Report = Body<"report_reports_get", 200>;
type Problem = components["schemas"]["ProblemBody"];

export function names(products: Products): string[] {
  return products.items.map((product) => product.nombre);
}

export function where(upload: Upload): string {
  return upload.status_url;
}

export function next(contacts: Contacts): string | null | undefined {
  return contacts.next_cursor;
}

export function isDone(report: Report): boolean {
  return report.estado === "COMPLETADO";
}

export function sentence(problem: Problem): string {
  return `${problem.code}: ${problem.detail}`;
}

export const upload: keyof paths = "/api/v1/catalog/items/bulk-upload";
