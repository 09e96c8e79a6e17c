// The cart of this browser: its name is kept, its lines are asked for.
import { apiDelete, apiPost, fetchJSON } from "../api";
import type { Cart } from "../types";

const KEY = "shop-cart";

export function cartName(): string {
  var known = localStorage.getItem(KEY);
  if (known) {
    return known;
  }
  var made = Math.random().toString(36).slice(2, 10);
  localStorage.setItem(KEY, made);
  console.log("a new cart", made);
  return made;
}

export function loadCart(): Promise<Cart> {
  return fetchJSON<Cart>(`/carts/${cartName()}`);
}

export function addToCart(sku: string, count: number): Promise<number> {
  return apiPost<number>(`/carts/${cartName()}/lines`, { sku, count });
}

export async function emptyCart(): Promise<void> {
  var lines = await apiDelete<number>(`/carts/${cartName()}`);
  console.log("lines forgotten:", lines);
}
