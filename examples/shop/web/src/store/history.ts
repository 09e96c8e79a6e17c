// What was looked at lately, the latest first.
import { fetchJSON } from "../api";
import type { Product } from "../types";

const KEY = "shop-history";
const MOST = 5;

export function remember(sku: string): void {
  var others = known().filter((one) => one !== sku);
  localStorage.setItem(KEY, JSON.stringify([sku, ...others].slice(0, MOST)));
}

export function known(): string[] {
  var raw = localStorage.getItem(KEY);
  return raw ? (JSON.parse(raw) as string[]) : [];
}

export async function lookedAt(): Promise<Product[]> {
  let found: Product[] = [];
  for (const sku of known()) {
    try {
      found = [...found, await fetchJSON<Product>(`/products/${sku}`)];
    } catch (error) {
      console.log("no longer sold", sku, error);
    }
  }
  return found;
}
