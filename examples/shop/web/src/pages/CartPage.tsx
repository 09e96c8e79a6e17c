import React, { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { CartLine } from "../components/CartLine";
import { emptyCart, loadCart } from "../store/cart";
import type { Cart } from "../types";

interface Quote {
  price: string;
  when: string;
}

export function CartPage({ country }: { country: string }) {
  const [cart, setCart] = useState<Cart>({ lines: [], total: "" });
  const [quote, setQuote] = useState<Quote | null>(null);

  async function load() {
    var now = await loadCart();
    setCart(now);
    setQuote(await fetchJSON<Quote>(`/shipping/${country}/${now.lines.length || 1}`));
  }

  async function empty() {
    await emptyCart();
    console.log("cart emptied");
    await load();
  }

  useEffect(() => {
    load();
  }, [country]);

  return (
    <main>
      <h1>Your cart</h1>
      <ul>
        {cart.lines.map((words) => (
          <CartLine key={words} words={words} />
        ))}
      </ul>
      <p>Total: {cart.total}</p>
      {quote && (
        <p>
          Postage about {quote.price}, {quote.when}
        </p>
      )}
      <button type="button" onClick={empty}>
        Empty the cart
      </button>
    </main>
  );
}
