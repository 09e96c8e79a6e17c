import React, { useState } from "react";
import { apiPost, fetchJSON } from "../api";
import { cartName } from "../store/cart";
import type { Order } from "../types";

const COUNTRIES = ["DE", "AT", "FR", "PT"];

export function CheckoutPage() {
  const [country, setCountry] = useState(COUNTRIES[0]);
  const [voucher, setVoucher] = useState("");
  const [order, setOrder] = useState<Order | null>(null);
  const [refused, setRefused] = useState("");

  async function buy() {
    var body = voucher ? { country, voucher } : { country };
    try {
      var name = await apiPost<string>(`/checkout/${cartName()}`, body);
      console.log("ordered", name);
      setOrder(await fetchJSON<Order>(`/orders/${name}`));
    } catch (error) {
      console.log("refused", error);
      setRefused(String(error));
    }
  }

  if (order !== null) {
    return (
      <p>
        Thank you. {order.title}: {order.amount}
      </p>
    );
  }
  return (
    <main>
      <select aria-label="Country" value={country} onChange={(event) => setCountry(event.target.value)}>
        {COUNTRIES.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
      <input aria-label="Voucher" value={voucher} onChange={(event) => setVoucher(event.target.value)} />
      {refused && <p role="alert">{refused}</p>}
      <button type="button" onClick={buy}>
        Buy
      </button>
    </main>
  );
}
