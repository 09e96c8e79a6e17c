import React, { useEffect, useState } from "react";
import { apiPost, fetchJSON } from "../api";
import { PriceTag } from "../components/PriceTag";
import { StarRating } from "../components/StarRating";
import { remember } from "../store/history";
import type { Product, Review } from "../types";

interface Reviews {
  reviews: Review[];
  mean: string;
}

export function ProductPage({ sku }: { sku: string }) {
  const [product, setProduct] = useState<Product | null>(null);
  const [reviews, setReviews] = useState<Reviews>({ reviews: [], mean: "0.0" });
  const [left, setLeft] = useState(0);

  async function load() {
    setProduct(await fetchJSON<Product>(`/products/${sku}`));
    setReviews(await fetchJSON<Reviews>(`/products/${sku}/reviews`));
    var shelf = await fetchJSON<{ left: number }>(`/stock/${sku}`);
    setLeft(shelf.left);
    console.log("product", sku, shelf.left);
  }

  async function rate(stars: number) {
    var count = await apiPost<number>(`/products/${sku}/reviews`, { stars, words: "" });
    console.log("reviews now", count);
    await load();
  }

  useEffect(() => {
    remember(sku);
    load();
  }, [sku]);

  if (product === null) {
    return <p>One moment…</p>;
  }
  return (
    <main>
      <h1>{product.title}</h1>
      <PriceTag cents={product.cents} />
      <p>{left > 0 ? `${left} left` : "Sold out"}</p>
      <StarRating stars={Math.round(Number(reviews.mean))} onPick={rate} />
      <ul>
        {reviews.reviews.map((review, number) => (
          <li key={number}>{review.words}</li>
        ))}
      </ul>
    </main>
  );
}
